"""SemanIR once more, slowly: written from the equations, token by token, for the tests alone.

It shares no code with irbench.models: it reads a module's weights and options and computes what
the module's text says, with loops over windows, heads and queries, on tensors so that autograd can
follow. Which keys the dictionary holds is asked of the module, and checked: of a tie either will
do.
"""

import math

import torch

# -- parts ---------------------------------------------------------------------------------------

def linear(m, x):
    return x @ m.weight.T + (0 if m.bias is None else m.bias)


def norm(m, x):
    centred = x - x.mean(-1, keepdim=True)
    deviation = (centred.square().mean(-1, keepdim=True) + 1e-5).sqrt()
    return centred / deviation * m.weight + m.bias


def gelu(x):
    return x * (1 + torch.erf(x / math.sqrt(2))) / 2


def conv(m, x, stride=1):
    """(H, W, C) -> (H / stride, W / stride, C'), 3x3 or 1x1, zeros outside."""
    radius = m.kernel_size[0] // 2
    height, width, c = x.shape
    wide = x.new_zeros(height + 2 * radius, width + 2 * radius, c)
    wide[radius:radius + height, radius:radius + width] = x
    y = m.bias
    for i in range(2 * radius + 1):
        for j in range(2 * radius + 1):
            y = y + wide[i:i + height, j:j + width] @ m.weight[:, :, i, j].T
    return y[::stride, ::stride]


def shuffle(x, scale):
    """(H, W, C s^2) -> (sH, sW, C); the channel's number counts (C, row, column)."""
    height, width, c = x.shape
    y = x.new_zeros(height * scale, width * scale, c // scale**2)
    for i in range(scale):
        for j in range(scale):
            y[i::scale, j::scale] = x[..., i * scale + j::scale**2]
    return y


def unshuffle(x, scale):
    height, width, c = x.shape
    y = x.new_zeros(height // scale, width // scale, c * scale**2)
    for i in range(scale):
        for j in range(scale):
            y[..., i * scale + j::scale**2] = x[i::scale, j::scale]
    return y


def chain(modules, x):
    """A reconstructor or extractor, by the kinds of its modules."""
    for m in modules:
        kind = type(m).__name__
        if kind == "Sequential":
            x = chain(m, x)
        elif kind == "Shuffle":
            x = shuffle(x, m.scale)
        elif kind == "Unshuffle":
            x = unshuffle(x, m.scale)
        elif kind == "LeakyReLU":
            x = torch.where(x > 0, x, 0.01 * x)
        else:
            x = conv(m, x)
    return x


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
    hidden = linear(m.mlp[0], offsets).clamp(min=0)
    return 16 / (1 + (-(hidden @ m.mlp[2].weight.T)).exp()).movedim(-1, 0)


def attention(m, x, rows, window):
    """(N, C) of one window -> (N, C)."""
    c = x.shape[1]
    d = c // m.heads
    q, k, v = linear(m.qkv, x).split(c, dim=-1)
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
    return linear(m.project, torch.cat(heads, -1))


def layer(m, x, rows, window):
    def ffn(x):
        return linear(m.ffn[2], gelu(linear(m.ffn[0], x)))

    if m.pre:
        x = x + attention(m.attention, norm(m.norm1, x), rows, window)
        return x + ffn(norm(m.norm2, x))
    x = x + norm(m.norm1, attention(m.attention, x, rows, window))
    return x + norm(m.norm2, ffn(x))


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
    return x + conv(m.conv, y)


def padded(x, multiple):
    """(H, W, C), continued by reflection at the bottom and right."""
    height, width, _ = x.shape
    rows = [mirrored(i, height) for i in range(-(-height // multiple) * multiple)]
    columns = [mirrored(j, width) for j in range(-(-width // multiple) * multiple)]
    return x[rows][:, columns]


def columns(m, image):
    """SemanIR without a skip: (C, H, W) -> (C, sH, sW)."""
    x = padded(image.permute(1, 2, 0), m.size_multiple)
    shallow = chain([m.extract], x)
    deep = norm(m.norm_in, shallow)
    for one in m.stages:
        deep = stage(one, deep)
    deep = shallow + conv(m.body_conv, norm(m.norm_out, deep))
    y = chain(m.reconstruct, deep).permute(2, 0, 1)
    return y[:, :m.scale * image.shape[1], :m.scale * image.shape[2]]


def unet(m, image):
    """SemanIRUnet with the input added: (C, H, W) -> the same."""
    def up(conv, x):
        y = x.new_zeros(2 * x.shape[0], 2 * x.shape[1], conv.weight.shape[1])
        for i in range(2):
            for j in range(2):
                y[i::2, j::2] = x @ conv.weight[:, :, i, j] + conv.bias
        return y

    x = conv(m.extract, padded(image.permute(1, 2, 0), m.size_multiple))
    first = stage(m.encoders[0], x)
    second = stage(m.encoders[1], conv(m.downs[0], first, 2))
    third = stage(m.encoders[2], conv(m.downs[1], second, 2))
    x = stage(m.latent, conv(m.downs[2], third, 2))
    x = stage(m.decoders[2], linear(m.fusions[2], torch.cat([up(m.ups[2], x), third], -1)))
    x = stage(m.decoders[1], linear(m.fusions[1], torch.cat([up(m.ups[1], x), second], -1)))
    joined = torch.cat([up(m.ups[0], x), first], -1)
    x = stage(m.final, stage(m.decoders[0], joined))
    y = conv(m.reconstruct[0], joined + conv(m.body_conv, x)).permute(2, 0, 1)
    return image + y[:, :image.shape[1], :image.shape[2]]
