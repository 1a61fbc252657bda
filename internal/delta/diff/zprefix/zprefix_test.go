package zprefix_test

import (
	"bytes"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/klauspost/compress/zstd"
	"github.com/stretchr/testify/require"

	"github.com/fairlead-dev/fairlead/internal/delta/diff/zprefix"
)

func decode(t testing.TB, prefix, frame []byte) []byte {
	t.Helper()
	options := []zstd.DOption{zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(1 << 31)}
	if len(prefix) > 0 {
		options = append(options, zstd.WithDecoderDictRaw(0, prefix))
	}
	d, err := zstd.NewReader(nil, options...)
	require.NoError(t, err)
	defer d.Close()
	out, err := d.DecodeAll(frame, nil)
	require.NoError(t, err)
	return out
}

// decodeTool has the zstd program decode, where there is one.
func decodeTool(t *testing.T, prefix, frame []byte) []byte {
	t.Helper()
	dir := t.TempDir()
	write := func(name string, data []byte) string {
		path := filepath.Join(dir, name)
		require.NoError(t, os.WriteFile(path, data, 0o600))
		return path
	}
	out := filepath.Join(dir, "out")
	cmd := exec.CommandContext(t.Context(), "zstd", "-q", "-d", "--patch-from", write("old", prefix), write("patch.zst", frame), "-o", out)
	message, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s", message)
	data, err := os.ReadFile(out)
	require.NoError(t, err)
	return data
}

func words(r *rand.Rand, n int) []byte {
	list := bytes.Fields([]byte("the quick brown fox jumps over a lazy dog while func return if err nil package import string int64 bytes"))
	var b bytes.Buffer
	for b.Len() < n {
		b.Write(list[r.IntN(len(list))])
		b.WriteByte(" \n\t(,"[r.IntN(5)])
	}
	return b.Bytes()[:n]
}

func noise(r *rand.Rand, n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return b
}

// edited changes a share of the lines of old.
func edited(r *rand.Rand, old []byte, share float64) []byte {
	var out []byte
	for line := range bytes.Lines(old) {
		if r.Float64() < share {
			switch r.IntN(3) {
			case 0:
				continue
			case 1:
				out = append(out, words(r, 1+r.IntN(40))...)
			case 2:
				line = bytes.ReplaceAll(line, []byte("e"), []byte("ee"))
			}
		}
		out = append(out, line...)
	}
	return out
}

func TestRoundTrip(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	text := words(r, 700_000)
	mix := append(append(noise(r, 50_000), text[:100_000]...), make([]byte, 300_000)...)
	for name, c := range map[string]struct{ prefix, content []byte }{
		"nothing":         {},
		"nothing of some": {text, nil},
		"one byte":        {nil, []byte("x")},
		"three":           {text, []byte("abc")},
		"text":            {nil, text},
		"same":            {text, text},
		"same, short":     {text[:300], text[:300]},
		"edited":          {text, edited(r, text, 0.01)},
		"much edited":     {text, edited(r, text, 0.5)},
		"noise":           {nil, noise(r, 400_000)},
		"noise of text":   {text, noise(r, 1000)},
		"zeros":           {nil, make([]byte, 1_000_000)},
		"zeros of text":   {text, make([]byte, 131072)},
		"mixed":           {text, mix},
		"mixed, turned":   {mix, append(append([]byte{}, mix[200_000:]...), mix[:200_000]...)},
		"size 255":        {nil, text[:255]},
		"size 256":        {nil, text[:256]},
		"size 65791":      {text, noise(r, 65791)},
		"size 65792":      {text, noise(r, 65792)},
		"two letters":     {nil, bytes.Repeat([]byte("ab"), 70_000)},
		"no UTF-8":        {nil, []byte("\xe8\xe9\xea\xeb")},
		"reversed":        {noise(r, 1000), bytes.Repeat(noise(r, 37), 9000)},
	} {
		t.Run(name, func(t *testing.T) {
			frame, err := zprefix.Encode(t.Context(), c.prefix, c.content)
			require.NoError(t, err)
			require.True(t, bytes.Equal(c.content, decode(t, c.prefix, frame)), "another content comes out")
			t.Logf("%d bytes with a prefix of %d: %d", len(c.content), len(c.prefix), len(frame))
			if _, err := exec.LookPath("zstd"); err == nil {
				require.True(t, bytes.Equal(c.content, decodeTool(t, c.prefix, frame)), "the zstd program makes something else of it")
			}
		})
	}
}

func FuzzRoundTrip(f *testing.F) {
	r := rand.New(rand.NewPCG(3, 4))
	text := words(r, 3000)
	f.Add([]byte(nil), text, uint8(1))
	f.Add(text, edited(r, text, 0.1), uint8(1))
	f.Add(text[:100], append(noise(r, 500), text...), uint8(90))
	f.Add(noise(r, 100), bytes.Repeat([]byte("ab"), 30), uint8(255))
	f.Fuzz(func(t *testing.T, prefix, content []byte, times uint8) {
		if len(content) == 0 || len(content) > 4<<10 || len(prefix) > 4<<10 {
			return
		}
		content = bytes.Repeat(content, min(int(times), (140<<10)/len(content))) // so that there are two blocks
		for i := range content {                                                 // none of which is the last one again
			if i%977 == 0 {
				content[i] += byte(i / 977)
			}
		}
		frame, err := zprefix.Encode(t.Context(), prefix, content)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(content, decode(t, prefix, frame)) {
			t.Fatal("another content comes out")
		}
	})
}
