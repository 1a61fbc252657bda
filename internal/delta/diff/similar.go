package diff

import (
	"context"
	"math"
	"slices"

	"github.com/fairlead-dev/fairlead/channel"
)

// Names say where a file was, not where its content was: functions move from file to file, and bundlers shuffle
// modules. So old files are sampled as well: of about every 64th place, chosen by the 32 bytes before it, a hash of them
// is kept. What a new file shares with old ones shows in how many of its samples they have. And new files share content
// with each other that no old one has (a bundle, and the same again as a module), so those that were made are sampled, too.

const (
	sampleFiles   = 8        // bases of one file, its old self besides
	sampleShare   = 50       // a base has at least 1/50 of the samples of a file,
	sampleLeast   = 3        // and at least so many
	sampleOld     = 64 << 20 // bytes: longer files are no neighbours
	samplesOfFile = 6        // how many files a sample remembers
	maxSamples    = 8 << 20  // in all
	spareBase     = 1 << 20  // bytes of neighbours of a short file
)

type samples struct {
	gear  [256]uint32
	mask  uint32
	names []string // SHA-256s of old files, and of those made
	sizes map[string]int64
	files map[uint32][]int32
}

// sample reads the old files that can be neighbours of what is missing.
func sample(ctx context.Context, old *Content, missing []channel.File) (*samples, error) {
	s := &samples{sizes: map[string]int64{}, files: map[uint32][]int32{}}
	seed := uint32(1)
	for i := range s.gear {
		seed ^= seed << 13
		seed ^= seed >> 17
		seed ^= seed << 5
		s.gear[i] = seed * 0x9e3779b1
	}
	var total int64
	var names []string
	for sum, size := range old.sizes {
		if size <= sampleOld {
			total += size
			names = append(names, sum)
		}
	}
	for _, f := range missing {
		total += f.Length
	}
	slices.Sort(names)
	every := uint32(64)
	for total/int64(every) > maxSamples && every < math.MaxUint32/4 {
		every *= 2
	}
	s.mask = (every - 1) << 8
	if len(missing) == 0 {
		return s, nil
	}
	for _, sum := range names {
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		data, err := old.read(sum)
		if err != nil {
			return nil, err
		}
		s.add(sum, data)
	}
	return s, nil
}

// add samples a file.
func (s *samples) add(sum string, data []byte) {
	i := int32(len(s.names))
	s.names, s.sizes[sum] = append(s.names, sum), int64(len(data))
	for _, h := range s.of(data) {
		if known := s.files[h]; len(known) < samplesOfFile && (len(known) == 0 || known[len(known)-1] != i) {
			s.files[h] = append(known, i)
		}
	}
}

// of returns the samples of data. A shift by one bit for every byte has forgotten a byte after 32.
func (s *samples) of(data []byte) []uint32 {
	var list []uint32
	h := uint32(0)
	for i, b := range data {
		h = h<<1 + s.gear[b]
		if h&s.mask == 0 && i >= 31 {
			list = append(list, h)
		}
	}
	return list
}

// basesOf lists the lists of bases that are worth trying for a file: its old self, if there is one, and that after old
// files that share content with it.
func (s *samples) basesOf(f channel.File, data []byte, self string) [][]string {
	var lists [][]string
	if self != "" {
		lists = append(lists, []string{self})
	}
	if f.Length > sampleOld {
		return lists
	}
	neighbours := s.neighbours(s.of(data), self, min(maxNeighbours, spareBase+16*f.Length))
	if len(neighbours) == 0 {
		return lists
	}
	// What comes last is nearest, and near matches are the cheapest.
	slices.Reverse(neighbours)
	if self != "" {
		neighbours = append(neighbours, self)
	}
	return append(lists, neighbours)
}

// neighbours picks old files, each for having the most of the samples that those before it have not.
func (s *samples) neighbours(wanted []uint32, self string, most int64) []string {
	least := max(len(wanted)/sampleShare, sampleLeast)
	var picked []string
	var bytes int64
	if self != "" {
		wanted = s.without(wanted, int32(slices.Index(s.names, self)))
	}
	for len(picked) < sampleFiles {
		file, count := s.mostOf(wanted, most-bytes)
		if count < least {
			break
		}
		picked = append(picked, s.names[file])
		bytes += s.sizes[s.names[file]]
		wanted = s.without(wanted, file)
	}
	return picked
}

// mostOf returns the file that has most of the samples, of those that still fit.
func (s *samples) mostOf(wanted []uint32, room int64) (file int32, count int) {
	counts := map[int32]int{}
	for _, h := range wanted {
		for _, i := range s.files[h] {
			counts[i]++
		}
	}
	file = -1
	for i, n := range counts {
		if fits := s.sizes[s.names[i]] <= room; fits && (n > count || n == count && i < file) {
			file, count = i, n
		}
	}
	return file, count
}

func (s *samples) without(wanted []uint32, file int32) []uint32 {
	var left []uint32
	for _, h := range wanted {
		if !slices.Contains(s.files[h], file) {
			left = append(left, h)
		}
	}
	return left
}
