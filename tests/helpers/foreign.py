"""Small networks of other groups, with files of weights as their authors write them."""

import torch
from safetensors.torch import save_file
from spandrel.architectures.Compact import Compact
from spandrel.architectures.DRUNet import DRUNet
from spandrel.architectures.SwinIR import SwinIR


def drunet():
    return DRUNet(in_nc=4, out_nc=3, nc=[4, 8, 8, 16], nb=2, act_mode="R",
                  downsample_mode="strideconv", upsample_mode="convtranspose")


def compact(scale=2):
    return Compact(num_in_ch=3, num_out_ch=3, num_feat=4, num_conv=2, upscale=scale)


def swinir():
    return SwinIR(img_size=16, window_size=8, depths=[2], num_heads=[2], embed_dim=12, mlp_ratio=2,
                  upscale=2, upsampler="pixelshuffledirect")


def saved(folder, network, name="weights.pth"):
    """Write a network's random weights as its authors would; return (path, the network)."""
    path = folder / name
    state = network.eval().state_dict()
    if path.suffix == ".safetensors":
        save_file({key: value.contiguous() for key, value in state.items()}, path)
    else:
        torch.save({"params": state}, path)
    return path, network
