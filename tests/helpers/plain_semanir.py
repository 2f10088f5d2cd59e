"""SemanIR once more, slowly: written from the equations, token by token, for the tests alone.

It shares no code with irbench.models: it reads a module's weights and options and computes what
the module's text says, with loops over windows, heads and queries, on tensors so that autograd can
follow. Which keys the dictionary holds is asked of the module, and checked: of a tie either will
do.
"""

import math

import torch

from tests.helpers.plain_blocks import conv, ends, gelu, layer_norm, linear

# -- the dictionary and attention ----------------------------------------------------------------

def similarity(kind, tokens):
    """(N, C) -> (N, N)."""
    if kind == "cosine":
        tokens = tokens / tokens.norm(dim=-1, keepdim=True)
    elif kind == "dot_ln":
        centred = tokens - tokens.mean(-1, keepdim=True)
        tokens = centred / (centred.square().mean(-1, keepdim=True) + 1e-5).sqrt()
    return tokens @ tokens.T


def recorded(network, *inputs):
    """Run a network; let ``chosen`` know, window by window, which keys it took."""
    def keep(module, args, keys):
        module.taken = iter([None] * len(args[0]) if keys.mask is None else keys.mask)

    hooks = [m.register_forward_hook(keep) for m in network.modules()
             if type(m).__name__ == "KeyDictionary"]
    out = network(*inputs)
    for hook in hooks:
        hook.remove()
    return out


def chosen(module, tokens):
    """A window's keys, a list for each query: the module's, after a look at whether they are right.

    tokens: (N, C), of one window. In the order of a run that was recorded, or by asking again.
    """
    tokens = tokens.detach()
    n = len(tokens)
    mask = next(module.taken) if hasattr(module, "taken") else module(tokens.unsqueeze(0)).mask
    if module.k >= n:
        assert mask is None
        return [list(range(n))] * n
    rows = [row.nonzero().flatten().tolist() for row in mask.view(n, n)]
    for own, row in zip(similarity(module.similarity, tokens), rows, strict=True):
        assert len(row) == module.k
        rest = [j for j in range(n) if j not in row]
        assert own[row].min() >= own[rest].max() - 1e-9
    return rows


def attend(q, k, v, rows, bias):
    """One head of one window: (N, d) each, bias (N, N) or None."""
    out = []
    for i, row in enumerate(rows):
        scores = torch.stack([q[i] @ k[j] + (0 if bias is None else bias[i, j]) for j in row])
        weights = (scores - scores.max().detach()).exp()
        out.append(sum(w * v[j] for w, j in zip(weights / weights.sum(), row, strict=True)))
    return torch.stack(out)


def position_bias(m, window):
    """(heads, N, N): 16 sigmoid of the MLP of log-spaced offsets."""
    places = [(y, x) for y in range(window) for x in range(window)]

    def log(step):
        step = step * 8 / (window - 1)
        return math.copysign(math.log2(abs(step) + 1) / 3, step)

    offsets = torch.tensor([[[log(a - c), log(b - d)] for c, d in places] for a, b in places],
                           dtype=torch.float64)
    hidden = linear(offsets, m.mlp[0]).clamp(min=0)
    return 16 / (1 + (-(hidden @ m.mlp[2].weight.T)).exp()).movedim(-1, 0)


def attention(m, x, rows, window):
    """(N, C) of one window -> (N, C)."""
    c = x.shape[1]
    d = c // m.heads
    q, k, v = linear(x, m.qkv).split(c, dim=-1)
    bias = position_bias(m.bias, window)
    heads = []
    for h in range(m.heads):
        a, b = q[:, h * d:h * d + d], k[:, h * d:h * d + d]
        if m.scaling == "sqrt":
            a = a / math.sqrt(d)
        else:
            scale = m.log_scale[h, 0, 0].clamp(max=math.log(100)).exp() \
                if m.scaling == "learned" else 10.0
            a = scale * a / a.norm(dim=-1, keepdim=True)
            b = b / b.norm(dim=-1, keepdim=True)
        heads.append(attend(a, b, v[:, h * d:h * d + d], rows, bias[h]))
    return linear(torch.cat(heads, -1), m.project)


def layer(m, x, rows, window):
    def ffn(x):
        return linear(gelu(linear(x, m.ffn[0])), m.ffn[2])

    if m.pre:
        x = x + attention(m.attention, layer_norm(x, m.norm1), rows, window)
        return x + ffn(layer_norm(x, m.norm2))
    x = x + layer_norm(attention(m.attention, x, rows, window), m.norm1)
    return x + layer_norm(ffn(x), m.norm2)


# -- stages and networks -------------------------------------------------------------------------

def mirrored(i, length):
    """A position beyond the ends, by reflection that does not repeat the edge."""
    while not 0 <= i < length:
        i = -i if i < 0 else 2 * (length - 1) - i
    return i


def stage(m, x):
    """(H, W, C) -> (H, W, C), one window at a time."""
    height, width, _ = x.shape
    w, shift = m.window, m.margin
    y = torch.zeros_like(x)
    for top in range(-shift, height, w):
        for left in range(-shift, width, w):
            places = [(a, b) for a in range(top, top + w) for b in range(left, left + w)]
            tokens = torch.stack([x[mirrored(a, height), mirrored(b, width)] for a, b in places])
            rows = chosen(m.dictionary, tokens)
            for one in m.layers:
                tokens = layer(one, tokens, rows, w)
            for (a, b), token in zip(places, tokens, strict=True):
                if 0 <= a < height and 0 <= b < width:
                    y[a, b] = token
    return x + conv(y, m.conv)


def padded(x, multiple):
    """(H, W, C), continued by reflection at the bottom and right."""
    height, width, _ = x.shape
    rows = [mirrored(i, height) for i in range(-(-height // multiple) * multiple)]
    columns = [mirrored(j, width) for j in range(-(-width // multiple) * multiple)]
    return x[rows][:, columns]


def columns(m, image):
    """SemanIR without a skip: (C, H, W) -> (C, sH, sW)."""
    x = padded(image.permute(1, 2, 0), m.size_multiple)
    shallow = ends(x, m.extract)
    deep = layer_norm(shallow, m.norm_in)
    for one in m.stages:
        deep = stage(one, deep)
    deep = shallow + conv(layer_norm(deep, m.norm_out), m.body_conv)
    y = ends(deep, m.reconstruct).permute(2, 0, 1)
    return y[:, :m.scale * image.shape[1], :m.scale * image.shape[2]]


def unet(m, image):
    """SemanIRUnet with the input added: (C, H, W) -> the same."""
    def up(conv, x):
        y = x.new_zeros(2 * x.shape[0], 2 * x.shape[1], conv.weight.shape[1])
        for i in range(2):
            for j in range(2):
                y[i::2, j::2] = x @ conv.weight[:, :, i, j] + conv.bias
        return y

    x = conv(padded(image.permute(1, 2, 0), m.size_multiple), m.extract)
    first = stage(m.encoders[0], x)
    second = stage(m.encoders[1], conv(first, m.downs[0], 2))
    third = stage(m.encoders[2], conv(second, m.downs[1], 2))
    x = stage(m.latent, conv(third, m.downs[2], 2))
    x = stage(m.decoders[2], linear(torch.cat([up(m.ups[2], x), third], -1), m.fusions[2]))
    x = stage(m.decoders[1], linear(torch.cat([up(m.ups[1], x), second], -1), m.fusions[1]))
    joined = torch.cat([up(m.ups[0], x), first], -1)
    x = stage(m.final, stage(m.decoders[0], joined))
    y = conv(joined + conv(x, m.body_conv), m.reconstruct[0]).permute(2, 0, 1)
    return image + y[:, :image.shape[1], :image.shape[2]]
