// Verifies a log's directory with golang.org/x/mod/sumdb alone: the note's signature and cosignatures, the root out of
// the tiles, the entries under them, inclusion and consistency. Prints what it verified.
//
//	verify DIR ORIGIN-VKEY WITNESS-VKEY OLD-SIZE OLD-ROOT
package main

import (
	"bytes"
	"crypto/ed25519"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

func must(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "verify:", err)
		os.Exit(1)
	}
}

// cosigner verifies cosignature/v1 (C2SP tlog-cosignature), which x/mod does not know.
type cosigner struct {
	name string
	hash uint32
	key  ed25519.PublicKey
}

func newCosigner(vkey string) cosigner {
	parts := strings.SplitN(vkey, "+", 3)
	hash, err := strconv.ParseUint(parts[1], 16, 32)
	must(err)
	key, err := base64.StdEncoding.DecodeString(parts[2])
	must(err)
	if key[0] != 4 {
		must(fmt.Errorf("not a witness's key"))
	}
	return cosigner{parts[0], uint32(hash), key[1:]}
}

func (c cosigner) Name() string    { return c.name }
func (c cosigner) KeyHash() uint32 { return c.hash }
func (c cosigner) Verify(msg, sig []byte) bool {
	if len(sig) != 8+ed25519.SignatureSize {
		return false
	}
	time := binary.BigEndian.Uint64(sig)
	signed := fmt.Sprintf("cosignature/v1\ntime %d\n%s", time, msg)
	return ed25519.Verify(c.key, []byte(signed), sig[8:])
}

// tiles reads tlog-tiles: the same as Go's, but for the height in the path and the name of the entries.
type tiles struct{ dir string }

func (t tiles) Height() int                        { return 8 }
func (t tiles) SaveTiles([]tlog.Tile, [][]byte)    {}
func (t tiles) path(tile tlog.Tile) string {
	path := strings.TrimPrefix(tile.Path(), "tile/8/")
	return filepath.Join(t.dir, "tile", strings.Replace(path, "data/", "entries/", 1))
}
func (t tiles) ReadTiles(list []tlog.Tile) ([][]byte, error) {
	var all [][]byte
	for _, tile := range list {
		data, err := os.ReadFile(t.path(tile))
		if err != nil {
			return nil, err
		}
		all = append(all, data)
	}
	return all, nil
}

func main() {
	dir, witness := os.Args[1], newCosigner(os.Args[3])
	text, err := os.ReadFile(filepath.Join(dir, "cosigned"))
	must(err)
	log, err := note.NewVerifier(os.Args[2])
	must(err)
	opened, err := note.Open(text, note.VerifierList(log, witness))
	must(err)
	if len(opened.Sigs) != 2 || len(opened.UnverifiedSigs) != 0 {
		must(fmt.Errorf("%d signatures verified, %d not", len(opened.Sigs), len(opened.UnverifiedSigs)))
	}
	lines := strings.Split(opened.Text, "\n")
	size, err := strconv.ParseInt(lines[1], 10, 64)
	must(err)
	root, err := tlog.ParseHash(lines[2])
	must(err)

	// The reader verifies every tile it reads against the root.
	reader := tlog.TileHashReader(tlog.Tree{N: size, Hash: root}, tiles{dir})
	found, err := tlog.TreeHash(size, reader)
	must(err)
	if found != root {
		must(fmt.Errorf("the root over the tiles is another"))
	}
	for n := int64(0); n < size; n++ {
		tile := tlog.Tile{H: 8, L: -1, N: n / 256, W: 256}
		if rest := size - tile.N*256; rest < 256 {
			tile.W = int(rest)
		}
		bundle, err := os.ReadFile(tiles{dir}.path(tile))
		must(err)
		at := n % 256 * 34
		if len(bundle) != tile.W*34 || !bytes.Equal(bundle[at:at+2], []byte{0, 32}) {
			must(fmt.Errorf("the bundle of entry %d is out of form", n))
		}
		proof, err := tlog.ProveRecord(size, n, reader)
		must(err)
		must(tlog.CheckRecord(proof, size, root, n, tlog.RecordHash(bundle[at+2:at+34])))
	}
	old, err := strconv.ParseInt(os.Args[4], 10, 64)
	must(err)
	oldRoot, err := tlog.ParseHash(os.Args[5])
	must(err)
	proof, err := tlog.ProveTree(size, old, reader)
	must(err)
	must(tlog.CheckTree(proof, size, root, old, oldRoot))
	fmt.Printf("verified %d entries, consistent with %d\n", size, old)
}
