// How the bytes of a volume come about.

package main

import (
	"log"
	"os"
	"strconv"
	"strings"
)

func (d *driver) fill(v *volume, dir, from string, live bool) error {
	if v.Backing == backingDir {
		if from == "" {
			if err := os.Mkdir(data(dir), 0o777); err != nil {
				return err
			}
			return os.Chmod(data(dir), 0o777) // whatever the umask
		}
		return copyContent(v.Backing, from, dir, live)
	}
	if from != "" {
		if err := copyContent(v.Backing, from, dir, live); err != nil {
			return err
		}
	}
	if _, err := sh("truncate", "-s", strconv.FormatInt(v.Size, 10), image(dir)); err != nil {
		return err
	}
	if v.Backing != backingExt4 {
		return nil
	}
	v.FSSize = v.Size
	if from == "" {
		_, err := sh("mkfs.ext4", "-q", "-F", "-m", "0", "-E", "root_owner=0:0", image(dir))
		return err
	}
	return growExt4(image(dir))
}

// growExt4 grows an unmounted ext4 to its image's size.
func growExt4(img string) error {
	if _, err := sh("e2fsck", "-fy", img); err != nil && !strings.Contains(err.Error(), "exit status 1") {
		return err
	}
	_, err := sh("resize2fs", img)
	return err
}

// copyContent copies a volume's or snapshot's bytes; a live ext4 is frozen meanwhile.
func copyContent(backing, from, to string, live bool) error {
	if backing == backingDir {
		_, err := sh("cp", "-a", "--reflink=auto", data(from), data(to))
		return err
	}
	if live {
		if backing == backingExt4 && mounted(mnt(from)) {
			if _, err := sh("fsfreeze", "-f", mnt(from)); err != nil {
				return err
			}
			defer func() {
				if _, err := sh("fsfreeze", "-u", mnt(from)); err != nil {
					log.Print(err)
				}
			}()
		}
		if _, err := sh("sync", image(from)); err != nil {
			return err
		}
	}
	_, err := sh("cp", "--reflink=auto", "--sparse=always", image(from), image(to))
	return err
}
