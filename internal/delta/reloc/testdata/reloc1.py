#!/usr/bin/env python3
"""reloc1.py OLD PATCH NEW: applies a patch of the format reloc/1.

It was written from docs/formats.md, not from the Go code, to show that the document says enough. It needs the module brotli.
"""
import bisect
import hashlib
import re
import struct
import sys
import zlib

import brotli

M64 = 2**64 - 1
NONE = 0xFFFFFFFF

# The forms of references. Of ULEB + n and STEP + n, n is how many bytes they have.
REL32, ABS64, OFF32, OFF32X4, BRANCH, PAGE, LINEFUNC, LINEINLINE, ULEB, STEP = 0, 1, 2, 3, 4, 5, 6, 7, 10, 20
SIZE = [4, 8, 4, 4, 4, 8, 4, 4, 0, 0, 0, 1, 2, 3, 4, 0, 0, 0, 0, 0, 0, 1, 2, 3]


class Bad(Exception):
    """The patch is damaged, or for another file."""


def check(ok, text):
    if not ok:
        raise Bad(text)


def leb(b, i, end):
    """The ULEB128 at b[i:end], and where it ends. The number is None if it is not whole or has more than 64 bits."""
    x = 0
    for shift in range(0, 70, 7):
        if i >= end:
            break
        c, i = b[i], i + 1
        x |= (c & 127) << shift
        if c < 128:
            return (x if x <= M64 else None), i
    return None, i


def unleb(x):
    b = bytearray()
    while x > 127:
        b.append(x & 127 | 128)
        x >>= 7
    return bytes(b) + bytes([x])


def unzigzag(x):
    return x >> 1 ^ -(x & 1)


def signed(x, bits):
    """The low bits of x, as a signed number."""
    x &= (1 << bits) - 1
    return x - (1 << bits) if x >> bits - 1 else x


class Numbers:
    """A stream of numbers."""

    def __init__(self, b):
        self.b, self.i = b, 0

    def u(self, most=M64):
        x, self.i = leb(self.b, self.i, len(self.b))
        check(x is not None and x <= most, "a number is not whole, or too large")
        return x

    def s(self):
        return unzigzag(self.u())

    def end(self):
        check(self.i == len(self.b), "something stands behind the last number of a stream")


def address(places, o):
    """The address of an offset, if it has one."""
    for off, addr, size, _ in places:
        if o - off & M64 < size:
            return addr + o - off & M64
    return None


class Plan:
    def __init__(self, b):
        n = Numbers(b)
        self.old_size, self.new_size, self.crc, self.lo = n.u(), n.u(), n.u(), n.u()
        self.hi = self.lo + n.u() & M64
        self.places, last = ([], []), [(0, 0, 0, 0)] * 2  # (Off, Addr, Size, MemSize) in the old file, and in the new one
        for _ in range(n.u(64)):
            for side in 0, 1:
                off, addr, size, mem = last[side]
                off, addr, size = off + size + n.s() & M64, addr + mem + n.s() & M64, n.u()
                last[side] = off, addr, size, size + n.s() & M64
                self.places[side].append(last[side])
        self.bases, old = [], 0  # (Old, New)
        for _ in range(n.u(255)):
            old = old + n.s() & M64
            self.bases.append((old, old + n.s() & M64))
        self.regions, end = [], 0  # (Kind, Off, Size, parameters)
        for _ in range(n.u(1024)):
            kind, off, size = n.u(255), end + n.s() & M64, n.u()
            self.regions.append((kind, off, size, [n.u() for _ in range(n.u(64))]))
            end = off + size
        self.blanks = [(n.u(), n.u()) for _ in range(n.u(1024))]
        self.hashes = [(n.u(), n.u(), n.u(30)) for _ in range(n.u(16))]
        self.finds = [(n.u(), n.u(), n.u()) for _ in range(n.u(16))]
        n.end()


class Scanner:
    """Finds the references of the old file: (offset, form, argument)."""

    def __init__(self, plan, old):
        self.plan, self.old, self.steps = plan, old, 0

    def all(self):
        taken, refs = bytearray(len(self.old)), []
        kinds = {1: (self.amd64, 0, 0), 2: (self.arm64, 0, 0), 3: (self.pointers, 0, 0), 4: (self.table, None, 0),
                 5: (self.functions, 5, 0), 6: (self.function_data, 4, 2), 7: (self.types, 2, 0), 8: (self.lines, 4, 4),
                 9: (self.rebase, None, 0)}
        read = 0
        for kind, off, size, params in self.plan.regions:
            check(kind in kinds, "a region is of no known kind")
            scan, count, ranges = kinds[kind]  # ranges: so many of the parameters are offsets and sizes, the others bases
            check(len(params) == count or count is None and params, "a region has too many or too few parameters")
            for o, n in ((off, size), *zip(params[:ranges:2], params[1:ranges:2])):
                check(o + n <= len(self.old), "a region is not inside of the file")
                read += n
            check(read <= 8 * len(self.old), "the regions overlap too often")
            check(all((x > 0 or kind not in (6, 7)) and x <= len(self.plan.bases) for x in params[ranges:]),
                  "a region has no such base")
            bases = [self.plan.bases[x - 1] if x else None for x in params[ranges:]]
            found = [r for r in scan(off, size, *params[:ranges], *bases) if 1 not in taken[r[0]:r[0] + SIZE[r[1]]]]
            for o, form, _ in found:
                taken[o:o + SIZE[form]] = b"\1" * SIZE[form]
            refs += found
        return sorted(refs, key=lambda r: r[0])

    def u32(self, o):
        return int.from_bytes(self.old[o:o + 4], "little")

    def amd64(self, off, size):
        b, a, lo, hi = self.old[off:off + size], address(self.plan.places[0], off), self.plan.lo, self.plan.hi
        check(a is not None, "code has no address")
        opcodes = {x for x in range(0x40) if x & 7 < 4} | {*range(0x84, 0x8E)} | {*range(0xD0, 0xE0)}
        opcodes |= {0x63, 0x69, 0x6B, 0x80, 0x81, 0x83, 0xC0, 0xC1, 0xC6, 0xC7, 0xF6, 0xF7, 0xFE, 0xFF}
        s32, after = struct.Struct("<i").unpack_from, 0
        for m in re.compile(rb"[\xe8\xe9\x05\x0d\x15\x1d\x25\x2d\x35\x3d]|(?<=\x0f)[\x80-\x8f]").finditer(b, 1):
            i = m.start() + 1
            if i < after or i + 4 > size:
                continue
            d = i + 4 + s32(b, i)[0]  # t - A
            if b[i - 1] & 0xC7 != 5:
                ok = 0 <= d < size
            else:
                ok = lo <= (a + d & M64) < hi and (
                    b[i - 2] in opcodes or i >= 3 and b[i - 3] in (0x0F, 0x38) or i >= 5 and b[i - 5] == 0xC4
                    or i >= 5 and b[i - 4] == 0xC5 or i >= 6 and b[i - 6] == 0x62)
            if ok:
                yield off + i, REL32, None
                after = i + 5

    def arm64(self, off, size):
        check(address(self.plan.places[0], off) is not None, "code has no address")
        words = struct.unpack_from("<%dI" % (size // 4), self.old, off)
        after = 0
        for i, (w, x) in enumerate(zip(words, words[1:])):
            if w & 0x7C000000 == 0x14000000:
                if i >= after:
                    yield off + 4 * i, BRANCH, None
            elif w & 0x9F000000 == 0x90000000 and page_shift(x) is not None and x >> 5 & 31 == w & 31 and i >= after:
                yield off + 4 * i, PAGE, None
                after = i + 2

    def pointers(self, off, size):
        first, lo, hi = (off + 7) // 8 * 8, self.plan.lo, self.plan.hi
        for i, x in enumerate(struct.unpack_from("<%dQ" % max(0, (off + size - first) // 8), self.old, first)):
            if lo <= x < hi:
                yield first + 8 * i, ABS64, None

    def table(self, off, size, *bases):
        for i, x in enumerate(struct.unpack_from("<%dI" % (size // 4), self.old, off)):
            base = bases[i % len(bases)]
            if x != NONE and base:
                yield off + 4 * i, OFF32, base

    def records(self, off, size):
        """Go's records of functions: where they are in the file, P, D."""
        f = 0
        while f + 44 <= size:
            p, d = self.u32(off + f + 28), self.old[off + f + 43]
            end = f + 44 + 4 * (p + d)
            if p > 64 or end > size:
                f += 8
            else:
                yield off + f, p, d
                f = (end + 7) // 8 * 8

    def functions(self, off, size, text, names, pctab, cutab, data):
        for f, p, d in self.records(off, size):
            t = f + 44
            for o, form, base, none in [
                    (f, OFF32, text, -1), (f + 4, OFF32, names, -1), *((f + i, OFF32, pctab, 0) for i in (16, 20, 24)),
                    (f + 32, OFF32X4, cutab, NONE), (f + 36, LINEFUNC, text, -1),
                    *((t + 4 * i, OFF32, pctab, 0) for i in range(p)),
                    *((t + 4 * i, OFF32, data, NONE) for i in range(p, p + d))]:
                if base and self.u32(o) != none:
                    yield o, form, base

    def function_data(self, off, size, functions, functions_size, names, rodata):
        starts = {}  # the indices of each offset
        for f, p, d in self.records(functions, functions_size):
            for i in range(d):
                starts.setdefault(self.u32(f + 44 + 4 * (p + i)), set()).add(i)
        starts.pop(NONE, None)
        offsets, refs = sorted(starts), []
        for index, head in (3, 0), (2, 8):
            end = 0
            for o, limit in zip(offsets, offsets[1:] + [size]):
                if index in starts[o] and o >= end:
                    end = o + head
                    while end + 16 <= min(limit, size):
                        if index == 3:
                            refs += (off + end + 4, OFF32, names), (off + end + 12, LINEINLINE, None)
                        else:
                            refs.append((off + end + 12, OFF32, rodata))
                        end += 16
        return apart(refs)

    def types(self, off, n, types, text):
        b, a, lo, hi = self.old[off:off + n], address(self.plan.places[0], off) or 0, self.plan.lo, self.plan.hi
        u16, u32, u64 = (lambda o, s=struct.Struct(s): s.unpack_from(b, o)[0] for s in ("<H", "<I", "<Q"))
        heads = {20: [80], 25: [80], 19: [56], 22: [56], 23: [56], 17: [72], 18: [64], 21: [96, 104, 88, 80, 112]}
        refs = []
        for i in range(0, n - 47, 8):
            if len(refs) > n // 2:
                break
            k = b[i + 23] & 31
            if not (b[i + 21] in (1, 2, 4, 8) and b[i + 22] == b[i + 21] and 1 <= k <= 26 and b[i + 20] < 128
                    and 0 < u32(i + 40) < n and u32(i + 44) < n and u64(i + 8) <= u64(i)
                    and all(x == 0 or lo <= x < hi for x in (u64(i + 24), u64(i + 32)))):
                continue
            refs.append((off + i + 40, OFF32, types))
            if u32(i + 44):
                refs.append((off + i + 44, OFF32, types))
            if k == 20 and i + 72 <= n:
                m, c = u64(i + 56) - a & M64, u64(i + 64)
                if c < 4096 and m <= n and 8 * c <= n - m:
                    refs += ((off + m + 4 * j, OFF32, types) for j in range(2 * c))
            for u in (i + h for h in heads.get(k, [48]) if b[i + 20] & 1 and i + h + 16 <= n):
                c, m = u16(u + 4), u32(u + 8)
                if u32(u) < n and u16(u + 6) <= c and 16 <= m <= 65536 and u32(u + 12) == 0 and u + m + 16 * c <= n:
                    if u32(u):
                        refs.append((off + u, OFF32, types))
                    for r in range(u + m, u + m + 16 * c, 16):
                        refs.append((off + r, OFF32, types))
                        refs += ((off + r + j, OFF32, base) for j, base in ((4, types), (8, text), (12, text))
                                 if u32(r + j) not in (0, NONE))
                    break
        return apart(refs)

    def lines(self, off, size, functions, functions_size, trees, trees_size):
        b, end, reads = self.old[off:off + size], 1, 8 * size
        for f, p, d in sorted(self.records(functions, functions_size), key=lambda r: self.u32(r[0] + 24)):
            start = self.u32(f + 24)
            if start < end:
                continue
            end, second, tree = start, iter(()), 0
            if p > 2 and d > 3 and 0 < self.u32(f + 52) < size:
                second, tree = pairs(b, self.u32(f + 52)), self.u32(f + 44 + 4 * (p + 3))
            element, element_pc, last, pc = M64, 0, (NONE, 0), 0
            for i, width, value, after, end in pairs(b, start):
                while element_pc <= pc and reads:
                    reads -= 1
                    _, _, element, element_pc, _ = next(second, (0, 0, M64, M64, 0))
                name = self.u32(f + 4)
                if element < 2**31 and tree + 16 * element + 16 <= trees_size:
                    name = self.u32(trees + tree + 16 * element + 4)
                line = name, value & NONE
                if name != last[0] and width <= 3 and self.steps < 2**24:
                    yield off + i, STEP + width, (last, line)
                    self.steps += 1
                last, pc = line, after

    def rebase(self, off, size, *bases):
        i, end, numbers = off, off + size, {2: 1, 3: 1, 6: 1, 7: 1, 8: 2}
        while i < end:
            c, i = self.old[i], i + 1
            for _ in range(numbers.get(c >> 4, 0)):
                x, after = leb(self.old, i, end)
                if x is None:
                    return
                if c >> 4 == 2 and c & 15 < len(bases) and bases[c & 15] and after - i <= 4:
                    yield i, ULEB + after - i, bases[c & 15]
                i = after


def apart(refs):
    """The references in the order of their offsets, without those that overlap the one before."""
    end = 0
    for r in sorted(refs, key=lambda r: r[0]):
        if r[0] >= end:
            end = r[0] + SIZE[r[1]]
            yield r


def pairs(b, i):
    """The pairs of a table from b[i] on: where each begins, how many bytes v has, value and pc after it, where it ends."""
    value, pc, begun = M64, 0, False
    while True:
        v, j = leb(b, i, len(b))
        c, k = leb(b, j, len(b))
        if v is None or c is None or v == 0 and begun:
            return
        value, pc, begun = value + unzigzag(v) & M64, pc + c & M64, True
        yield i, j - i, value, pc, k
        i = k


def page_shift(x):
    if x & 0x7FC00000 == 0x11000000:
        return 0
    if x & 0x3B000000 == 0x39000000:
        return 4 if x & 0x04800000 == 0x04800000 and x >> 30 == 0 else x >> 30
    return None


class Mover:
    """Knows where things have gone."""

    def __init__(self, plan, old, blocks, runs):
        self.places, self.old = plan.places, old
        self.blocks = sorted(blocks, key=lambda b: b[0])
        self.starts = [b[0] for b in self.blocks]
        self.targets, self.shifts = [r[0] for r in runs], [r[1] for r in runs]
        self.known = {}

    def guess(self, a):
        for (off, addr, size, mem), new in zip(*self.places):
            x = a - addr & M64
            if x < size:
                o = off + x & M64
                k = bisect.bisect_right(self.starts, o) - 1
                t = address(self.places[1], self.blocks[k][1] + o - self.blocks[k][0]) if k >= 0 else None
                return a if t is None else t
            if x < mem:
                return x + new[1] & M64
        return a

    def project(self, a):
        a &= M64
        if a not in self.known:
            k = bisect.bisect_right(self.targets, a) - 1
            self.known[a] = self.guess(a) + (self.shifts[k] if k >= 0 else 0) & M64
        return self.known[a]

    def line(self, n, l):
        return self.project(2**62 + (n << 24) + (l & 0xFFFFFF)) & 0xFFFFFF

    def move(self, o, form, arg, at):
        """What is written for the reference at the offset o, if it comes to stand at the offset at; None: its bytes stay."""
        size = SIZE[form]
        if form > STEP:
            a, b = (-1 if n == NONE else self.line(n, l) for n, l in arg)
            d = b - a
            return fits(unleb(2 * d if d >= 0 else -2 * d - 1), size)
        p, q = address(self.places[0], o), address(self.places[1], at)
        if p is None or q is None:
            return None
        x = int.from_bytes(self.old[o:o + size], "little")
        if form == REL32:
            y = self.project(p + 4 + signed(x, 32)) - q - 4
        elif form == ABS64:
            y = self.project(x)
        elif form == OFF32:
            y = self.project(arg[0] + signed(x, 32)) - arg[1]
        elif form == OFF32X4:
            y = (self.project(arg[0] + 4 * signed(x, 32)) - arg[1] & M64) >> 2
        elif form == BRANCH:
            y = x & ~0x3FFFFFF | (self.project(p + 4 * signed(x, 26)) - q & M64) >> 2 & 0x3FFFFFF
        elif form == PAGE:
            w, x = x & NONE, x >> 32
            s = page_shift(x)
            t = self.project((p & ~0xFFF) + 4096 * signed(w >> 5 << 2 | w >> 29 & 3, 21) + ((x >> 10 & 0xFFF) << s))
            i = (t & ~0xFFF) - (q & ~0xFFF) >> 12
            w = w & 0x9F00001F | (i & 3) << 29 | (i >> 2 & 0x7FFFF) << 5
            y = w | (x & ~(0xFFF << 10) | (t & 0xFFF) >> s << 10) << 32
        elif form in (LINEFUNC, LINEINLINE):
            n = o - (32 if form == LINEFUNC else 8)
            y = x & 0xFF000000 | self.line(int.from_bytes(self.old[n:n + 4], "little"), x)
        else:
            return fits(unleb(self.project(arg[0] + leb(self.old, o, o + size)[0]) - arg[1] & M64), size)
        return (y & (1 << 8 * size) - 1).to_bytes(size, "little")


def fits(b, size):
    return b if len(b) == size else None


def fill(plan, new):
    """Fills in what follows from the rest: tables for finding functions, and then hashes of pages."""
    for off, functab, count in plan.finds:
        check(0 < count <= 2**22 and functab + 8 * count + 4 <= off, "a find table is not behind that of functions")
        if off >= len(new):
            continue
        starts = struct.unpack_from("<%dI" % (2 * count + 1), new, functab)[::2]
        table, k, parts = bytearray(), 0, (starts[count] + 255) // 256
        if parts + 4 * ((parts + 15) // 16) > len(new) // 64 + 1024:
            continue
        for j in range(parts):
            while k + 1 < count and starts[k + 1] <= 256 * j:
                k += 1
            if j % 16 == 0:
                first = k
                table += struct.pack("<I", k)
            table.append(k - first & 255)
        new[off:off + len(table)] = table[:len(new) - off]
    for off, limit, bits in plan.hashes:
        check(limit <= off <= len(new) and bits >= 10, "hashes are not behind their pages, or of too many")
        for i in range(-(-limit // 2**bits) if off < len(new) else 0):
            at = off + 32 * i
            sum = hashlib.sha256(new[i << bits:min(limit, i + 1 << bits)]).digest()
            new[at:at + 32] = sum[:max(0, len(new) - at)]


def apply(old, patch):
    check(patch[:8] == b"FLrelo1\n", "this is no patch")
    n = Numbers(patch[8:])
    sizes = [n.u() for _ in range(10)]
    i, streams = 8 + n.i, []
    check(i + sum(sizes) == len(patch), "the patch is too long or too short")
    for size in sizes:
        streams.append(brotli.decompress(patch[i:i + size]))
        i += size
    plan, literals, extra = Plan(streams[0]), streams[8], streams[9]
    check(len(old) == plan.old_size and zlib.crc32(old) == plan.crc, "the patch is for another file")

    skips, seeks, lengths, targets, shifts, same, wrong = map(Numbers, streams[1:8])
    blocks, at, to = [], 0, 0  # (Old, New, Size)
    for _ in range(skips.u(plan.new_size // 4 + 1)):
        at, to, size = at + seeks.s(), to + skips.u(), lengths.u()
        check(size > 0 and 0 <= at <= plan.old_size - size and to <= plan.new_size - size, "a block is outside of the files")
        blocks.append((at, to, size))
        at, to = at + size, to + size
    runs, target, shift = [], 0, 0
    for _ in range(targets.u(plan.old_size // 8 + 1)):
        target, shift = target + targets.u(), shift + shifts.s()
        runs.append((target, shift))

    image = bytearray(old)
    if plan.regions:
        check(plan.old_size <= 2**30, "the old file is too long for regions")
        for off, size in plan.blanks:
            check(off + size <= len(old), "a blank is not inside of the file")
            image[off:off + size] = bytes(size)
    image = bytes(image)
    refs = Scanner(plan, image).all()
    offsets = [r[0] for r in refs]
    mover = Mover(plan, image, blocks, runs)

    copied = bytearray()  # all blocks, one after the other
    for at, to, size in blocks:
        block = bytearray(image[at:at + size])
        for o, form, arg in refs[bisect.bisect_left(offsets, at):bisect.bisect_left(offsets, at + size)]:
            b = mover.move(o, form, arg, to + o - at) if o + SIZE[form] <= at + size else None
            if b is not None:
                block[o - at:o - at + len(b)] = b
        copied += block
    i = k = 0
    while i < len(copied):
        a, b = same.u(), wrong.u()
        check(a + b > 0 and i + a + b <= len(copied) and k + b <= len(literals), "a gap is too long, or nothing")
        i += a
        copied[i:i + b] = bytes(x + y & 255 for x, y in zip(copied[i:i + b], literals[k:k + b]))
        i, k = i + b, k + b
    check(k == len(literals), "literals are left")
    for numbers in skips, seeks, lengths, targets, shifts, same, wrong:
        numbers.end()

    new, i, k = bytearray(), 0, 0
    check(len(extra) + len(copied) == plan.new_size, "there are too many or too few new bytes")
    for _, to, size in blocks:
        n = to - len(new)
        new += extra[k:k + n] + copied[i:i + size]
        i, k = i + size, k + n
    new += extra[k:]
    fill(plan, new)
    return new


def main():
    if len(sys.argv) != 4:
        sys.exit("usage: reloc1.py OLD PATCH NEW")
    with open(sys.argv[1], "rb") as f, open(sys.argv[2], "rb") as g:
        old, patch = f.read(), g.read()
    try:
        new = apply(old, patch)
    except (Bad, brotli.error) as e:
        sys.exit("reloc1.py: %s" % e)
    with open(sys.argv[3], "wb") as f:
        f.write(new)


if __name__ == "__main__":
    main()
