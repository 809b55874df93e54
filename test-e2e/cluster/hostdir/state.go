// What the driver remembers: volumes and snapshots, as JSON beside their data.

package main

import (
	"encoding/json"
	"errors"
	"log"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

const (
	backingDir   = "dir"
	backingExt4  = "ext4"
	backingBlock = "block"
	defaultSize  = int64(1 << 30)
)

type volume struct {
	ID, Name, Backing string
	Size              int64
	FSSize            int64  `json:",omitempty"` // the size its ext4 was last grown to
	Source            string `json:",omitempty"`
}

type snapshot struct {
	ID, Name, Volume, Backing string
	Size                      int64
	Created                   time.Time
}

type driver struct {
	csi.UnimplementedIdentityServer
	csi.UnimplementedControllerServer
	csi.UnimplementedNodeServer
	name, node, root string

	mu    sync.Mutex
	vols  map[string]*volume
	snaps map[string]*snapshot
	busy  map[string]bool
}

func (d *driver) volDir(id string) string  { return filepath.Join(d.root, "volumes", id) }
func (d *driver) snapDir(id string) string { return filepath.Join(d.root, "snapshots", id) }
func data(dir string) string               { return filepath.Join(dir, "data") }
func image(dir string) string              { return filepath.Join(dir, "disk.img") }
func mnt(dir string) string                { return filepath.Join(dir, "mnt") }

func save(dir string, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	tmp := filepath.Join(dir, "meta.json.tmp")
	if err := os.WriteFile(tmp, b, 0o600); err != nil {
		return err
	}
	return os.Rename(tmp, filepath.Join(dir, "meta.json"))
}

// load reads every saved item; a directory without metadata is an unfinished one and is removed.
func load[T any](base string, put func(*T)) error {
	if err := os.MkdirAll(base, 0o700); err != nil {
		return err
	}
	entries, err := os.ReadDir(base)
	if err != nil {
		return err
	}
	for _, e := range entries {
		b, err := os.ReadFile(filepath.Join(base, e.Name(), "meta.json"))
		if errors.Is(err, os.ErrNotExist) {
			log.Printf("removing unfinished %s", e.Name())
			if err := os.RemoveAll(filepath.Join(base, e.Name())); err != nil {
				return err
			}
			continue
		}
		if err != nil {
			return err
		}
		item := new(T)
		if err := json.Unmarshal(b, item); err != nil {
			return err
		}
		put(item)
	}
	return nil
}

// begin marks a key as being worked on; the caller must call the returned func.
func (d *driver) begin(key string) (func(), error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.busy[key] {
		return nil, status.Errorf(codes.Aborted, "an operation on %s is under way", key)
	}
	d.busy[key] = true
	return func() { d.mu.Lock(); delete(d.busy, key); d.mu.Unlock() }, nil
}

func (d *driver) findVolume(match func(*volume) bool) *volume {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, v := range d.vols {
		if match(v) {
			c := *v
			return &c
		}
	}
	return nil
}

func (d *driver) findSnapshot(match func(*snapshot) bool) *snapshot {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, s := range d.snaps {
		if match(s) {
			c := *s
			return &c
		}
	}
	return nil
}

// grown records that a volume's ext4 has the given size.
func (d *driver) grown(id string, size int64) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	v := *d.vols[id]
	v.FSSize = size
	d.vols[id] = &v
	return save(d.volDir(id), &v)
}
