package relocdiff

// suffixArray sorts the suffixes of s by induced sorting (Nong, Zhang, Chan: "Two Efficient Algorithms for Linear Time
// Suffix Array Construction", 2011). No element of s is above upper. It takes linear time, and about 8 bytes an element beside s.
func suffixArray[T byte | int32](s []T, upper int) []int32 {
	n := len(s)
	sa := make([]int32, n)
	if n < 2 {
		return sa
	}
	st := newBitset(n) // suffixes that are smaller than the next one
	for i := n - 2; i >= 0; i-- {
		if s[i] < s[i+1] || s[i] == s[i+1] && st.has(i+1) {
			st.set(i)
		}
	}
	// Where the suffixes that begin with an element start in sa: the larger ones first, then the smaller ones.
	large, small := make([]int32, upper+2), make([]int32, upper+2)
	for i, c := range s {
		if st.has(i) {
			large[int(c)+1]++
		} else {
			small[c]++
		}
	}
	for c := range upper + 1 {
		small[c] += large[c]
		large[c+1] += small[c]
	}
	at := make([]int32, upper+2)
	induce := func(starts []int32) {
		for i := range sa {
			sa[i] = -1
		}
		copy(at, small)
		for _, d := range starts {
			sa[at[s[d]]] = d
			at[s[d]]++
		}
		copy(at, large)
		sa[at[s[n-1]]] = int32(n - 1)
		at[s[n-1]]++
		for i := range n {
			if v := sa[i]; v >= 1 && !st.has(int(v-1)) {
				c := s[v-1]
				sa[at[c]] = v - 1
				at[c]++
			}
		}
		copy(at, large)
		for i := n - 1; i >= 0; i-- {
			if v := sa[i]; v >= 1 && st.has(int(v-1)) {
				c := int(s[v-1]) + 1
				at[c]--
				sa[at[c]] = v - 1
			}
		}
	}
	isStart := func(i int32) bool { return i > 0 && st.has(int(i)) && !st.has(int(i-1)) }
	var starts []int32 // suffixes smaller than the next one, and larger than the one before
	for i := range int32(n) {
		if isStart(i) {
			starts = append(starts, i)
		}
	}
	induce(starts)
	m := len(starts)
	if m == 0 {
		return sa
	}
	// From here on, until it is made anew, sa is two other tables: the starts as sorted so far, and for each start (no two are
	// neighbours) its number.
	sorted, number := sa[:0], sa[n/2:]
	for _, v := range sa {
		if isStart(v) {
			sorted = append(sorted, v)
		}
	}
	for i, v := range starts {
		number[v/2] = int32(i)
	}
	end := func(v int32) int32 {
		if next := number[v/2] + 1; int(next) < m {
			return starts[next]
		}
		return int32(n)
	}
	names := make([]int32, m)
	name := int32(0)
	for i := 1; i < m; i++ {
		if !samePart(s, sorted[i-1], end(sorted[i-1]), sorted[i], end(sorted[i])) {
			name++
		}
		names[number[sorted[i]/2]] = name
	}
	if int(name) < m-1 {
		for i, v := range suffixArray(names, int(name)) {
			names[i] = starts[v]
		}
	} else {
		copy(names, sorted)
	}
	induce(names)
	return sa
}

// samePart reports whether the parts of s from one start to the next, with its first element, are the same.
func samePart[T byte | int32](s []T, a, aEnd, b, bEnd int32) bool {
	if aEnd-a != bEnd-b {
		return false
	}
	for ; a < aEnd; a, b = a+1, b+1 {
		if s[a] != s[b] {
			return false
		}
	}
	return int(aEnd) < len(s) && int(bEnd) < len(s) && s[a] == s[b]
}

type bitset []uint64

func newBitset(n int) bitset    { return make(bitset, n/64+1) }
func (b bitset) has(i int) bool { return b[i>>6]>>(uint(i)&63)&1 != 0 }
func (b bitset) set(i int)      { b[i>>6] |= 1 << (uint(i) & 63) }
