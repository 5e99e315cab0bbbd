"""NetworkSpec: all that travels with a network, and the one place that knows how it stands in JSON."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from brainseg_keras import ranges
from brainseg_keras.calibration import Calibration
from brainseg_keras.data.formats.lgg import CHANNELS
from brainseg_keras.data.inputs.preprocessing import Preprocessing
from brainseg_keras.data.inputs.targets import TUMOUR, Target
from brainseg_keras.data.roles import Roles
from brainseg_keras.errors import InputError
from brainseg_keras.expectation import Expectation
from brainseg_keras.information import VERSION
from brainseg_keras.postprocessing import Postprocessing, Tuning, choice_from_info

#: What each entry of the JSON is made of.
_KINDS: dict[str, type] = {
    "architecture": str,
    "arguments": dict,
    "calibration": dict,
    "channels": list,
    "context": int,
    "data": str,
    "expectation": dict,
    "license": str,
    "manifest_sha256": str,
    "postprocessing": dict,
    "preprocessing": dict,
    "roles": dict,
    "target": str,
    "versions": dict,
}


@dataclass(frozen=True)
class NetworkSpec:
    """What a network is, what it sees, how its answer becomes a mask, and whom it has met.

    Args:
        channels: Names of its sequences.
        target: What it was asked for: what its answer's channels are.
        preprocessing: How stored slices become its input.
        context: Neighboring slices on each side that it sees.
        postprocessing: How its probabilities become masks.
        calibration: How the network's own probabilities become those that all else sees.
        tuning: On whom `postprocessing` was chosen; None where it is the default or was given.
        expectation: How good its masks are likely to be, and of which scans; None where nobody measured.
        roles: The patients that it has met, and as what.
        architecture: Name of its recipe; None where nothing says.
        arguments: Of the recipe.
        data: What it was trained on.
        manifest_sha256: Of the manifest of these data.
        versions: Of the libraries that trained it.
        license: Of its weights, where it is not this package's.

    Raises:
        InputError: Channels that have no names, or one name twice; a context out of its range.

    Example:
        >>> NetworkSpec(("T1", "FLAIR"), context=1).depth
        6
    """

    channels: tuple[str, ...]
    target: Target = TUMOUR
    preprocessing: Preprocessing = Preprocessing()
    context: int = 0
    postprocessing: Postprocessing = Postprocessing()
    tuning: Tuning | None = None
    calibration: Calibration = Calibration()
    expectation: Expectation | None = None
    roles: Roles = Roles(complete=False)
    architecture: str | None = None
    arguments: Mapping[str, Any] = field(default_factory=dict)
    data: str | None = None
    manifest_sha256: str | None = None
    versions: Mapping[str, str | None] = field(default_factory=dict)
    license: str | None = None

    def __post_init__(self) -> None:
        """Refuse what cannot be."""
        object.__setattr__(self, "channels", tuple(self.channels))
        named = all(isinstance(name, str) for name in self.channels)
        if not named or not self.channels or len(set(self.channels)) < len(self.channels):
            raise InputError(f"Channels are names, each another. Received: {list(self.channels)}.")
        ranges.CONTEXT.check("context", self.context)

    @property
    def depth(self) -> int:
        """Channels of the network's input, those of neighboring slices counted in."""
        return len(self.channels) * (2 * self.context + 1)

    def check(self, input_shape: tuple[int | None, int | None, int], classes: int, name: str) -> None:
        """Refuse to describe a network that takes or answers something else.

        Args:
            input_shape: Height, width and channels of the network's input; None where any goes.
            classes: Channels of its answer.
            name: Of the network, for messages.

        Raises:
            InputError: Channels, size or target are not the network's.
        """
        height, _, depth = input_shape
        if self.depth != depth:
            raise InputError(
                f"{name} takes {depth} channels. Received {len(self.channels)} names: {', '.join(self.channels)}, "
                f"with context {self.context}."
            )
        if height is not None and height != self.preprocessing.size:
            raise InputError(f"{name} takes slices of {height} pixels. Received: {self.preprocessing.size}.")
        if len(self.target.channels) != classes:
            raise InputError(f"{name} answers in {classes} channels, not as {self.target.name!r} does.")

    @classmethod
    def guess(
        cls, input_shape: tuple[int | None, int | None, int], classes: int, name: str = "The network", **known: Any
    ) -> "NetworkSpec":
        """Describe a network of which only the shapes are known, as well as they allow.

        Args:
            input_shape: Height, width and channels of its input; None where any goes.
            classes: Channels of its answer: one is taken for the tumour, more for exclusive classes, background first.
            name: Of the network, for messages.
            **known: Fields that are known.

        Returns:
            The description; its roles are unknown.

        Raises:
            InputError: The network's input is not square.

        Example:
            >>> NetworkSpec.guess((64, 64, 3), 1).channels
            ('T1', 'FLAIR', 'T1ce')
        """
        height, width, depth = input_shape
        if "preprocessing" not in known:
            if height != width:
                raise InputError(f"{name} takes {height} x {width} pixels. Expected a square, or sizes left open.")
            known["preprocessing"] = Preprocessing(size=height or 256)
        if "target" not in known:
            known["target"] = TUMOUR if classes == 1 else Target.unnamed(classes)
        if "channels" not in known:
            known["channels"] = _names(depth // (2 * known.get("context", 0) + 1))
        return cls(**known)

    def to_info(self) -> dict[str, Any]:
        """Give what stands of it in a JSON file.

        Returns:
            Names and values that JSON can hold.
        """
        tuning = self.tuning.to_info() if self.tuning else {}
        content = {
            "version": VERSION,
            "architecture": self.architecture,
            "arguments": dict(self.arguments),
            "channels": list(self.channels),
            "target": self.target.name if self.target.named else None,
            "context": self.context,
            "preprocessing": dataclasses.asdict(self.preprocessing),
            "postprocessing": dataclasses.asdict(self.postprocessing) | tuning,
            "calibration": None if self.calibration == Calibration() else self.calibration.to_info(),
            "expectation": self.expectation and self.expectation.to_info(),
            "roles": self.roles.to_info(),
            "data": self.data,
            "manifest_sha256": self.manifest_sha256,
            "versions": dict(self.versions),
            "license": self.license,
        }
        return {name: value for name, value in content.items() if value not in (None, {})}

    @classmethod
    def from_info(cls, content: Mapping[str, Any], shapes: tuple[Any, ...] | None = None) -> "NetworkSpec":
        """Read what `to_info` gave.

        Args:
            content: Of the JSON file; entries of others in it are passed over.
            shapes: What `guess` takes before the fields that are known: missing entries are guessed from it. None
                allows no missing channels.

        Returns:
            The description. Where the content says no roles, they are unknown.

        Raises:
            InputError: An entry of another kind, or a value out of its range.

        Example:
            >>> spec = NetworkSpec(("FLAIR",), context=1)
            >>> NetworkSpec.from_info(spec.to_info()) == spec
            True
        """
        check_kinds(content, _KINDS)
        plain = ("architecture", "arguments", "context", "data", "manifest_sha256", "versions", "license")
        known: dict[str, Any] = {name: content[name] for name in plain if name in content}
        if "channels" in content:
            known["channels"] = tuple(content["channels"])
        if "target" in content:
            known["target"] = Target(content["target"])
        if "preprocessing" in content:
            known["preprocessing"] = Preprocessing(**content["preprocessing"])
        if "postprocessing" in content:
            known["postprocessing"], known["tuning"] = choice_from_info(content["postprocessing"])
        if "calibration" in content:
            known["calibration"] = Calibration.from_info(content["calibration"])
        if "expectation" in content:
            known["expectation"] = Expectation.from_info(content["expectation"])
        if "roles" in content:
            known["roles"] = Roles.from_info(content["roles"])
        spec = cls(**known) if shapes is None else cls.guess(*shapes, **known)
        return spec.with_calibration(spec.calibration)

    def with_choice(self, postprocessing: Postprocessing, tuning: Tuning | None) -> "NetworkSpec":
        """Give the same network what was chosen for it; those on whom it was chosen have met it then.

        Args:
            postprocessing: How its probabilities become masks.
            tuning: On whom that was chosen, or None.

        Returns:
            Another description.
        """
        if tuning is None:
            return replace(self, postprocessing=postprocessing, tuning=None)
        roles, present = self.roles.with_tuned(tuning.patients), self.calibration
        threshold = present.map_threshold(postprocessing.threshold, tuning.calibration)
        tuning = replace(tuning, temperature=present.temperature, bias=present.bias)
        return replace(self, postprocessing=replace(postprocessing, threshold=threshold), tuning=tuning, roles=roles)

    def with_calibration(self, calibration: Calibration) -> "NetworkSpec":
        """Give the same network another calibration; those on whom it was fitted have met it then.

        A threshold that was chosen on other probabilities moves with them; one that was not chosen stays.

        Args:
            calibration: The new one.

        Returns:
            Another description.

        Example:
            >>> spec = NetworkSpec(("FLAIR",)).with_choice(Postprocessing(0.2), Tuning())
            >>> round(spec.with_calibration(Calibration(temperature=0.5)).postprocessing.threshold, 4)
            0.0588
        """
        twin = replace(self, calibration=calibration, roles=self.roles.with_tuned(calibration.patients))
        return twin.with_choice(self.postprocessing, self.tuning)


def _names(count: int) -> tuple[str, ...]:
    if count == 1:
        return ("FLAIR",)
    return CHANNELS if count == len(CHANNELS) else tuple(f"channel {number + 1}" for number in range(count))


def check_kinds(content: Mapping[str, Any], kinds: Mapping[str, type]) -> None:
    """Refuse entries of another kind than their writer gives them.

    Args:
        content: Of a JSON file.
        kinds: What each entry is made of; one that is missing passes.

    Raises:
        InputError: An entry of another kind.
    """
    for name, kind in kinds.items():
        value = content.get(name)
        if name in content and (not isinstance(value, kind) or isinstance(value, bool)):
            raise InputError(f"{name} is a JSON {kind.__name__}. Received: {str(value)[:80]!r}.")
