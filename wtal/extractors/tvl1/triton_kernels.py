"""Triton kernels of TV-L1 optical flow: the steps of `torch_engine`, each in one pass over the pictures.

Every kernel has one program per pair and block or tile of pixels. Pictures are stored row by row; of `flow`, (2 sides,
N, 2, H, W), and `dual`, (2, N, 4, H, W), one side is read while the other is written, and `flow_side` and `dual_side`,
(N,), select the side with a pair's values. Pixels of one picture are counted in 32 bits, those of a batch in 64.

A pair's numbers depend only on that pair: no sum depends on the order of programs, and a kernel is compiled once for
all sizes and counts, since variants of it might round differently.
"""

import triton
import triton.language as tl


@triton.jit(do_not_specialize=["source_height", "source_width", "height", "width"])
def interpolate(
    source, result, rows, upper_rows, row_weights, columns, upper_columns, column_weights,
    source_height, source_width, height, width, factor, BLOCK: tl.constexpr,
):  # fmt: skip
    """Interpolate linearly, (M, h, w) -> (M, H, W), times `factor`."""
    image = tl.program_id(1).to(tl.int64)
    pixel = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = pixel < height * width
    y, x = pixel // width, pixel % width
    above, below = tl.load(rows + y, mask=inside, other=0), tl.load(upper_rows + y, mask=inside, other=0)
    left, right = tl.load(columns + x, mask=inside, other=0), tl.load(upper_columns + x, mask=inside, other=0)
    down = tl.load(row_weights + y, mask=inside, other=0.0)
    along = tl.load(column_weights + x, mask=inside, other=0.0)
    source += image * source_height * source_width
    top_left = tl.load(source + above * source_width + left, mask=inside, other=0.0)
    top_right = tl.load(source + above * source_width + right, mask=inside, other=0.0)
    low_left = tl.load(source + below * source_width + left, mask=inside, other=0.0)
    low_right = tl.load(source + below * source_width + right, mask=inside, other=0.0)
    top = top_left * (1 - along) + top_right * along
    low = low_left * (1 - along) + low_right * along
    tl.store(result + image * height * width + pixel, (top * (1 - down) + low * down) * factor, mask=inside)


@triton.jit(do_not_specialize=["pairs", "height", "width"])
def linearize(
    first, second, flow, flow_side, data, pairs, height, width,
    SHARPNESS: tl.constexpr, PLACES: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Compute the second picture's gradient along the flow, and the flow-free part of rho: data (N, 3, H, W).

    Bicubic interpolation, at PLACES between two pixels; 0 beyond the border.
    """
    pair = tl.program_id(1).to(tl.int64)
    area = height * width
    pixel = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = pixel < area
    flow += (tl.load(flow_side + pair) * pairs + pair) * 2 * area
    across = tl.load(flow + pixel, mask=inside, other=0.0)
    down = tl.load(flow + area + pixel, mask=inside, other=0.0)
    x, y = _rounded((pixel % width + across) * PLACES) / PLACES, _rounded((pixel // width + down) * PLACES) / PLACES
    start_x, start_y = tl.floor(x), tl.floor(y)
    part_x, part_y = x - start_x, y - start_y
    first_x = tl.minimum(tl.maximum(start_x, -4.0), width + 4.0).to(tl.int32) - 1
    first_y = tl.minimum(tl.maximum(start_y, -4.0), height + 4.0).to(tl.int32) - 1
    second += pair * area
    grey, slope_x, slope_y = tl.zeros_like(x), tl.zeros_like(x), tl.zeros_like(x)
    for row in tl.static_range(4):
        at_y = first_y + row
        weight_y = _cubic(tl.abs(part_y - (row - 1)), SHARPNESS)
        here_y = inside & (at_y >= 0) & (at_y < height)
        line = at_y * width
        line_above, line_below = tl.maximum(at_y - 1, 0) * width, tl.minimum(at_y + 1, height - 1) * width
        for column in tl.static_range(4):
            at_x = first_x + column
            weight = weight_y * _cubic(tl.abs(part_x - (column - 1)), SHARPNESS)
            here = here_y & (at_x >= 0) & (at_x < width)
            right = tl.load(second + line + tl.minimum(at_x + 1, width - 1), mask=here, other=0.0)
            left = tl.load(second + line + tl.maximum(at_x - 1, 0), mask=here, other=0.0)
            below = tl.load(second + line_below + at_x, mask=here, other=0.0)
            above = tl.load(second + line_above + at_x, mask=here, other=0.0)
            grey += weight * tl.load(second + line + at_x, mask=here, other=0.0)
            slope_x += weight * (0.5 * (right - left))
            slope_y += weight * (0.5 * (below - above))
    rest = grey - slope_x * across - slope_y * down - tl.load(first + pair * area + pixel, mask=inside, other=0.0)
    data += pair * 3 * area + pixel
    tl.store(data, slope_x, mask=inside)
    tl.store(data + area, slope_y, mask=inside)
    tl.store(data + 2 * area, rest, mask=inside)


@triton.jit
def _rounded(values):
    """Round to the nearest integer, halves to even: between 2^23 and 2^24, float32 has only integers."""
    return (values + 12582912.0) - 12582912.0


@triton.jit
def _cubic(distance, SHARPNESS: tl.constexpr):
    """Return Keys's weight of a sample `distance` away, which is at most 2."""
    near = ((SHARPNESS + 2) * distance - (SHARPNESS + 3)) * distance * distance + 1
    far = ((SHARPNESS * distance - 5 * SHARPNESS) * distance + 8 * SHARPNESS) * distance - 4 * SHARPNESS
    return tl.where(distance <= 1, near, far)


@triton.jit(do_not_specialize=["pairs", "height", "width"])
def median(flow, flow_side, steps, pairs, height, width, SIDE: tl.constexpr, CHUNK: tl.constexpr, BLOCK: tl.constexpr):
    """Filter the flow of pairs with a whole chunk left, from one side to the other, by SIDE x SIDE medians."""
    pair = tl.program_id(1).to(tl.int64) // 2
    if tl.load(steps + pair) < CHUNK:
        return
    area = height * width
    channel = tl.program_id(1) % 2 * area
    side = tl.load(flow_side + pair)
    source = flow + (side * pairs + pair) * 2 * area + channel
    result = flow + ((1 - side) * pairs + pair) * 2 * area + channel
    pixel = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = pixel < area
    y, x = pixel // width, pixel % width
    candidates = ()
    for number in tl.static_range(SIDE * SIDE):
        at_y = tl.minimum(tl.maximum(y + (number // SIDE - SIDE // 2), 0), height - 1)
        at_x = tl.minimum(tl.maximum(x + (number % SIDE - SIDE // 2), 0), width - 1)
        candidates = candidates + (tl.load(source + at_y * width + at_x, mask=inside, other=0.0),)
        if number > SIDE * SIDE // 2:
            candidates = _without_extremes(candidates, SIDE * SIDE // 2 + 2 - (number - SIDE * SIDE // 2 - 1))
    tl.store(result + pixel, candidates[0], mask=inside)


@triton.jit
def _without_extremes(values, COUNT: tl.constexpr):
    """Drop the smallest and the largest of COUNT values."""
    least = values[0]
    others = ()
    for number in tl.static_range(1, COUNT):
        others = others + (tl.maximum(least, values[number]),)
        least = tl.minimum(least, values[number])
    greatest = others[0]
    rest = ()
    for number in tl.static_range(1, COUNT - 1):
        rest = rest + (tl.minimum(greatest, others[number]),)
        greatest = tl.maximum(greatest, others[number])
    return rest


@triton.jit(do_not_specialize=["pairs", "height", "width", "tile_columns", "most"])
def iterate(
    flow, dual, data, steps, flow_side, dual_side, errors, pairs, height, width, tile_columns, most, bound, theta, step,
    CHUNK: tl.constexpr, HEIGHT: tl.constexpr, WIDTH: tl.constexpr,
):  # fmt: skip
    """Run `steps` iterations of every pair with 1 to `most` of them left, from one side to the other.

    A program has a tile of HEIGHT x WIDTH pixels in registers, row by row. Values at its rim become invalid, one pixel
    further inwards with each iteration, so only those CHUNK pixels inside are written. `errors`, (N, CHUNK, tiles),
    receives the summed squared change of those pixels in each iteration.
    """
    pair = tl.program_id(1).to(tl.int64)
    count = tl.load(steps + pair)
    if (count == 0) | (count > most):
        return
    tile = tl.program_id(0)
    index = tl.arange(0, HEIGHT * WIDTH)
    row, column = index // WIDTH, index % WIDTH
    y = tile // tile_columns * (HEIGHT - 2 * CHUNK) - CHUNK + row
    x = tile % tile_columns * (WIDTH - 2 * CHUNK) - CHUNK + column
    there = (y >= 0) & (y < height) & (x >= 0) & (x < width)
    whole = there & (row >= CHUNK) & (row < HEIGHT - CHUNK) & (column >= CHUNK) & (column < WIDTH - CHUNK)
    pixel = y * width + x
    area = height * width
    side = tl.load(flow_side + pair)
    source = flow + (side * pairs + pair) * 2 * area
    u1 = tl.load(source + pixel, mask=there, other=0.0)
    u2 = tl.load(source + area + pixel, mask=there, other=0.0)
    flow += ((1 - side) * pairs + pair) * 2 * area
    side = tl.load(dual_side + pair)
    source = dual + (side * pairs + pair) * 4 * area
    p11 = tl.load(source + pixel, mask=there, other=0.0)
    p12 = tl.load(source + area + pixel, mask=there, other=0.0)
    p21 = tl.load(source + 2 * area + pixel, mask=there, other=0.0)
    p22 = tl.load(source + 3 * area + pixel, mask=there, other=0.0)
    dual += ((1 - side) * pairs + pair) * 4 * area
    data += pair * 3 * area
    slope_x = tl.load(data + pixel, mask=there, other=0.0)
    slope_y = tl.load(data + area + pixel, mask=there, other=0.0)
    rest = tl.load(data + 2 * area + pixel, mask=there, other=0.0)
    inverse = 1.0 / tl.maximum(slope_x * slope_x + slope_y * slope_y, 1.1920929e-07)
    errors += pair * CHUNK * tl.num_programs(0) + tile
    for number in range(count):
        follow = (rest + (slope_x * u1 + slope_y * u2)) * inverse
        follow = tl.minimum(tl.maximum(follow, -bound), bound)
        new1 = u1 - slope_x * follow + theta * _divergence(p11, p12, x, y, HEIGHT, WIDTH)
        new2 = u2 - slope_y * follow + theta * _divergence(p21, p22, x, y, HEIGHT, WIDTH)
        change = tl.where(whole, (new1 - u1) * (new1 - u1) + (new2 - u2) * (new2 - u2), 0.0)
        tl.store(errors + number * tl.num_programs(0), tl.sum(change))
        u1, u2 = new1, new2
        p11, p12 = _ascend(p11, p12, u1, x, y, height, width, step, HEIGHT, WIDTH)
        p21, p22 = _ascend(p21, p22, u2, x, y, height, width, step, HEIGHT, WIDTH)
    tl.store(flow + pixel, u1, mask=whole)
    tl.store(flow + area + pixel, u2, mask=whole)
    tl.store(dual + pixel, p11, mask=whole)
    tl.store(dual + area + pixel, p12, mask=whole)
    tl.store(dual + 2 * area + pixel, p21, mask=whole)
    tl.store(dual + 3 * area + pixel, p22, mask=whole)


@triton.jit
def _divergence(along, down, x, y, HEIGHT: tl.constexpr, WIDTH: tl.constexpr):
    """Return this sample minus the previous one, along x plus along y; 0 precedes the picture's first."""
    left = _shifted(along, -1, HEIGHT * WIDTH)
    above = _shifted(down, -WIDTH, HEIGHT * WIDTH)
    return along + down - tl.where(x > 0, left, 0.0) - tl.where(y > 0, above, 0.0)


@triton.jit
def _ascend(along, down, u, x, y, height, width, step, HEIGHT: tl.constexpr, WIDTH: tl.constexpr):
    """Return dual variables after a step along the gradient of u, which is 0 in the picture's last column, row."""
    across = tl.where(x < width - 1, _shifted(u, 1, HEIGHT * WIDTH) - u, 0.0)
    downwards = tl.where(y < height - 1, _shifted(u, WIDTH, HEIGHT * WIDTH) - u, 0.0)
    shrink = 1.0 / (1.0 + step * tl.sqrt(across * across + downwards * downwards))
    return (along + step * across) * shrink, (down + step * downwards) * shrink


@triton.jit
def _shifted(values, OFFSET: tl.constexpr, COUNT: tl.constexpr):
    """Shift values by OFFSET positions in a tile of COUNT, repeating the end values."""
    index = tl.arange(0, COUNT) + OFFSET
    return tl.gather(values, tl.minimum(tl.maximum(index, 0), COUNT - 1), 0)


@triton.jit(do_not_specialize=["tiles", "most"])
def decide(
    steps, flow_side, dual_side, spent, errors, tiles, most, limit,
    CHUNK: tl.constexpr, ROWS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Decide how a pair continues after `iterate`: go on, end here, or end at an earlier iteration of the chunk.

    In the last case the chunk is repeated from its start, which is still available, up to that iteration.
    """
    pair = tl.program_id(0).to(tl.int64)
    count = tl.load(steps + pair)
    if (count == 0) | (count > most):
        return
    number = tl.arange(0, ROWS)
    total = tl.zeros((ROWS, BLOCK), tl.float32)
    for start in range(0, tiles, BLOCK):
        tile = start + tl.arange(0, BLOCK)
        there = (number < CHUNK)[:, None] & (tile < tiles)[None, :]
        where = (pair * CHUNK + number)[:, None] * tiles + tile[None, :]
        total += tl.load(errors + where, mask=there, other=0.0)
    still = (tl.sum(total, 1) > limit) | (number >= CHUNK)
    last = tl.min(tl.where(still, CHUNK + 1, number + 1), 0)
    if (count == CHUNK) & (last < CHUNK):
        tl.store(steps + pair, last)
    else:
        tl.store(flow_side + pair, 1 - tl.load(flow_side + pair))
        tl.store(dual_side + pair, 1 - tl.load(dual_side + pair))
        tl.store(spent + pair, tl.load(spent + pair) + count)
        tl.store(steps + pair, tl.where((count == CHUNK) & (last > CHUNK), CHUNK, 0))
