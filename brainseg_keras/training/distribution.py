"""One network trained on several devices and by several processes: who they are, and its twin on all of them."""

import atexit
import contextlib
import os
import re
import sys
import types
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from typing import Any

import keras
import numpy as np

from brainseg_keras.data.inputs.batches import BatchPart, SliceBatches
from brainseg_keras.errors import InputError, TrainingError, first_line, install_line
from brainseg_keras.spec import NetworkSpec
from brainseg_keras.training.config import TrainingConfig
from brainseg_keras.training.cpu import speed_up
from brainseg_keras.training.devices import Devices
from brainseg_keras.training.initial import freeze
from brainseg_keras.training.meeting import Meeting, meet
from brainseg_keras.training.record import RunRecord
from brainseg_keras.training.setup import build_network, compile_model

#: Settings that may differ between hosts: where the same files lie.
_PLACES = ("data", "root", "init")
#: Seconds in which JAX's processes take leave of each other.
_FAREWELL = 30


class Group:
    """The devices and processes that train one network; of one device alone nothing differs.

    Args:
        devices: What they are.
        meeting: Where the processes are; None for one.
        spread: TensorFlow's strategy or Keras' distribution over the devices; None for one device.
    """

    def __init__(self, devices: Devices, meeting: Meeting | None = None, spread: Any = None):
        self.devices = devices
        self._meeting, self._spread = meeting, spread

    @property
    def first(self) -> bool:
        """Whether this is process 0, which validates and writes."""
        return self.devices.first

    @property
    def mirrored(self) -> bool:
        """Whether TensorFlow keeps a copy of the network on each device, which computes a loss of its own."""
        return self._spread is not None and keras.backend.backend() == "tensorflow"

    def exchange(self, value: Any = None) -> list[Any]:
        """Tell all processes something; gives what each has told, when all have."""
        return [value] if self._meeting is None else self._meeting.exchange(value)

    def check_same(self, config: TrainingConfig, spec: NetworkSpec, precision: str, step: int = 0) -> None:
        """Refuse to train where the processes do not train the same; here each waits until all are ready.

        Raises:
            InputError: Settings, data or precision differ, or what the devices cannot do is asked for.
        """
        if self.mirrored and config.loss_options.get("reduce_over") == "batch":
            raise InputError(
                "reduce_over=batch pools the pixels of the whole batch, and on TensorFlow each device would pool those "
                "of its part. Set KERAS_BACKEND=jax, or train on one device."
            )
        if self.mirrored and precision == "mixed_float16":
            raise InputError(
                "In float16 a step is scaled by what one device finds, so that TensorFlow trains so on one device "
                "alone. Give a new run --precision float32 or mixed_bfloat16, or set KERAS_BACKEND=jax."
            )
        settings = {name: value for name, value in asdict(config).items() if name not in _PLACES}
        told = self.exchange(settings | {"precision": precision, "slices": spec.manifest_sha256, "step": step})
        differ = [
            f"{name} ({told[0][name]} in process 0, {other[name]} in process {index})"
            for index, other in enumerate(told)
            for name in told[0]
            if other[name] != told[0][name]
        ]
        if differ:
            raise InputError(
                f"The processes do not train the same: {', '.join(differ[:3])}. Start all with the same settings, data "
                "and versions."
            )

    def own_part(self, batches: SliceBatches) -> SliceBatches | BatchPart:
        """Give this process' part of every batch."""
        devices = self.devices
        return batches if devices.processes == 1 else BatchPart(batches, devices.index, devices.processes)

    def make_ready(self, model: keras.Model, record: RunRecord) -> keras.Model:
        """Give the network that is trained: the one given, or its twin on all devices.

        Args:
            model: Compiled, on one device; the same in all processes.
            record: What it is.
        """
        if self._spread is None:
            speed_up(model)
            return model
        with self._spread.scope():
            network = build_network(record.spec, record.precision)
            freeze(network, record.frozen)
            twin = compile_model(network, record.config, record.spec.target)
            twin.optimizer.build(twin.trainable_variables)
            copy_values(model.variables, twin.variables)
            if model.optimizer.built:
                copy_values(model.optimizer.variables, twin.optimizer.variables)
        if self.mirrored:
            _synchronize(twin)
        return twin

    @contextlib.contextmanager
    def training(self) -> Iterator[None]:
        """Train within this: JAX has to know the devices, and what fails since another process is gone is said so.

        Raises:
            TrainingError: A step failed that takes all processes.
        """
        with contextlib.ExitStack() as stack:
            if self._spread is not None and not self.mirrored:
                stack.enter_context(self._spread.scope())
            try:
                yield
            except (RuntimeError, ValueError) as error:
                # XLA's begin with a status, such as "UNKNOWN: Gloo AllGather failed".
                if self._meeting is None or not re.match("[A-Z_]+: ", str(error)):
                    raise
                raise TrainingError(
                    f"A step failed in process {self.devices.index} of {self.devices.processes}, most often since "
                    f"another process ended ({first_line(error)}). What was kept last is whole: start all processes "
                    "again, with --resume."
                ) from error


@contextlib.contextmanager
def gather(devices: Devices) -> Iterator[Group]:
    """Bring together what trains one network. Whatever then fails in one process, the others are told.

    Args:
        devices: What is asked for.

    Raises:
        InputError: There are not so many devices, the processes do not meet, or the backend cannot do it.

    Example:
        >>> with gather(Devices()) as group:
        ...     group.exchange("alone")
        ['alone']
    """
    backend = keras.backend.backend()
    if devices.processes > 1 and backend != "jax":
        raise InputError(
            f"Several processes train on JAX alone, and the backend is {backend}. Set KERAS_BACKEND=jax, in all of "
            f"them ({install_line('jax')}); --devices is for the GPUs of one machine."
        )
    with contextlib.ExitStack() as stack:
        meeting = stack.enter_context(meet(devices)) if devices.processes > 1 else None
        if devices.total == 1:
            spread = None
        elif backend == "tensorflow":
            spread = _mirror(devices.count)
        elif backend == "jax":
            spread = _parallel(devices, meeting)
        else:
            raise InputError(f"Several devices train on TensorFlow and JAX, and the backend is {backend}.")
        try:
            yield Group(devices, meeting, spread)
        except InputError:
            raise
        except BaseException as error:
            if meeting is not None:
                # JAX would wait for who is gone, and then abort.
                atexit.register(_end_at_once, 130 if isinstance(error, KeyboardInterrupt) else 1)
            raise


def _end_at_once(code: int) -> None:
    """End the process before JAX takes leave of the others, with the exit code of the command line."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


@contextlib.contextmanager
def one_device() -> Iterator[None]:
    """Compute on one device of this process for a while, whatever the network is spread over."""
    before = keras.distribution.distribution()
    keras.distribution.set_distribution(None)
    try:
        yield
    finally:
        keras.distribution.set_distribution(before)


def copy_values(source: Iterable[Any], target: Iterable[Any]) -> None:
    """Put the values of variables into others, whichever devices both are on."""
    for theirs, own in zip(source, target, strict=True):
        own.assign(np.array(keras.ops.convert_to_numpy(theirs)))


def _mirror(count: int) -> Any:
    import tensorflow as tf

    if gpus := tf.config.list_physical_devices("GPU"):
        _check_enough(count, len(gpus), "GPUs")
        return tf.distribute.MirroredStrategy([f"GPU:{index}" for index in range(count)])
    processor = tf.config.list_physical_devices("CPU")[0]
    if len(tf.config.get_logical_device_configuration(processor) or ()) < count:
        try:
            tf.config.set_logical_device_configuration(processor, [tf.config.LogicalDeviceConfiguration()] * count)
        except RuntimeError as error:
            raise InputError(
                f"There is no GPU, and the CPU cannot be cut into {count} devices any more: TensorFlow has computed in "
                "this process already. Train before that, or in another process."
            ) from error
    return tf.distribute.MirroredStrategy([f"CPU:{index}" for index in range(count)])


def _parallel(devices: Devices, meeting: Meeting | None) -> Any:
    import jax

    if "xla_force_host_platform_device_count" not in os.environ.get("XLA_FLAGS", ""):
        # Where JAX has computed already, it has the devices that it has.
        with contextlib.suppress(RuntimeError):
            jax.config.update("jax_num_cpu_devices", devices.count)
    if meeting and not jax.distributed.is_initialized():
        # gloo is for CPUs; and SIGTERM is ours.
        jax.config.update("jax_cpu_collectives_implementation", "gloo")
        jax.config.update("jax_enable_preemption_service", False)
        try:
            _initialize(jax, devices, meeting.address)
        except RuntimeError as error:
            raise InputError(
                f"JAX cannot bring the processes together ({first_line(error)}). Train before anything else is "
                "computed in the process, and let the machines reach each other at all ports."
            ) from error
    names = []
    for process in range(devices.processes):
        own = [device for device in jax.devices() if device.process_index == process]
        _check_enough(devices.count, len(own), f"{own[0].platform.upper()} devices of process {process}" if own else "")
        names += [f"{device.platform}:{device.id}" for device in own[: devices.count]]
    return keras.distribution.DataParallel(devices=names, auto_shard_dataset=False)


def _initialize(jax: Any, devices: Devices, address: str) -> None:
    from jax.experimental import multihost_utils

    jax.distributed.initialize(
        address,
        devices.processes,
        devices.index,
        local_device_ids=list(range(devices.count)),
        coordinator_bind_address=address,
        shutdown_timeout_seconds=_FAREWELL,
    )
    # gloo says on standard output, which may be for JSON, whom it is connected to, when that is first used.
    sys.stdout.flush()
    kept = os.dup(1)
    try:
        os.dup2(2, 1)
        multihost_utils.sync_global_devices("brainseg")
    finally:
        os.dup2(kept, 1)
        os.close(kept)


def _check_enough(wanted: int, there: int, what: str) -> None:
    if wanted > there:
        raise InputError(f"{wanted} devices are asked for, and there are {there} {what}. Give fewer --devices.")


def _synchronize(model: keras.Model) -> None:
    """Let normalizations measure the whole batch and not each device's part; a file of the network does not change."""
    for layer in model.layers:
        if type(layer) is keras.layers.BatchNormalization:
            layer._moments = types.MethodType(_moments_of_all, layer)


def _moments_of_all(layer: Any, inputs: Any, mask: Any) -> Any:
    """`BatchNormalization._moments`, over all devices; no layer of this package has a mask."""
    return keras.ops.moments(inputs, axes=layer._reduction_axes, synchronized=True)
