"""PyTorch contenders: MONAI and segmentation_models_pytorch, eager and compiled, channels last."""

import contextlib
import gc

from peers.work import images_and_masks, matrix_rate, timed


def torch_with_vision():
    """Import torch, and let torchvision be imported where its compiled part was built for another torch.

    PyPI's torchvision belongs to torch with CUDA. Beside a torch for processors alone it misses two operations, which
    no segmentation network uses; named, it can be imported.
    """
    import torch

    try:
        import torchvision
    except RuntimeError:
        library = torch.library.Library("torchvision", "FRAGMENT")
        for name in ("nms", "qnms"):
            library.define(f"{name}(Tensor boxes, Tensor scores, float threshold) -> Tensor")
        torch_with_vision.keep = library
        import torchvision  # noqa: F401
    return torch


def build(package, network, width):
    """Build a contender's network; answers are logits."""
    widths = [width * 2**level for level in range(5)]
    if package == "segmentation_models_pytorch":
        torch_with_vision()
        import segmentation_models_pytorch as smp

        decoder = tuple(reversed(widths))
        return smp.Unet("resnet18", encoder_weights=None, decoder_channels=decoder, in_channels=3, classes=1)
    from monai.networks import nets

    shared = {"spatial_dims": 2, "in_channels": 3, "out_channels": 1}
    if network == "unet":
        model = nets.BasicUNet(**shared, features=(*widths, width))
        for part in model.modules():
            if hasattr(part, "is_pad"):
                # Where sides are multiples of 16 it pads by nothing, and torch.compile fails on that step's gradient.
                part.is_pad = False
        return model
    return nets.AttentionUnet(**shared, channels=widths, strides=(2, 2, 2, 2))


def count_flops(torch, model, size):
    """Count the operations of one image by PyTorch's counter."""
    from torch.utils.flop_counter import FlopCounterMode

    model.eval()
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(torch.zeros(1, 3, size, size))
    return counter.get_total_flops()


def prepare(job, options):
    """Build a network and give how to run it."""
    import torch

    torch.manual_seed(0)
    model = build(options["package"], job["network"], job["width"])
    facts = {
        "flops": count_flops(torch, model, job["size"]),
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
    }
    model = model.to(memory_format=torch.channels_last)
    # Channels last as NumPy has them: a view, whose strides are those of torch's channels_last.
    images, masks = (torch.from_numpy(a).permute(0, 3, 1, 2) for a in images_and_masks(job["batch"], job["size"]))
    half = torch.autocast("cpu", dtype=torch.bfloat16) if job["precision"] == "bfloat16" else contextlib.nullcontext()
    model.train(job["work"] == "train")
    network = compiled(torch, model, job) if job.get("compiled") else model
    if job["work"] == "infer":

        def infer():
            # Not inference_mode: compiled networks are specialized for it and then compiled twice.
            with torch.no_grad(), half:
                return torch.sigmoid(network(images)).float().numpy()

        return timed(infer), facts
    optimizer, entropy = torch.optim.Adam(model.parameters(), 1e-3), torch.nn.BCEWithLogitsLoss()

    def train():
        optimizer.zero_grad(set_to_none=True)
        with half:
            logits = network(images)
        loss = entropy(logits.float(), masks)
        loss.backward()
        optimizer.step()
        return loss.item()

    return timed(train), facts


def compiled(torch, model, job):
    """Compile a network for these shapes, and for inference with its weights as constants."""
    from torch._inductor import config

    config.freezing = job["work"] == "infer"
    return torch.compile(model, dynamic=False)


def drop():
    """Let go of networks."""
    import torch

    torch._dynamo.reset()
    gc.collect()


def matrices(job, options):
    """Time PyTorch's matrix product."""
    import torch

    def multiply(side):
        left, right = torch.randn(side, side), torch.randn(side, side)
        return lambda: left @ right

    return {"gflops": matrix_rate(multiply), "library": "PyTorch"}
