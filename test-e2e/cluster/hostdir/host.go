// Mounts, loop devices and the programs that make them.

package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
)

func sh(args ...string) (string, error) {
	out, err := exec.Command(args[0], args[1:]...).CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("%s: %w: %s", strings.Join(args, " "), err, strings.TrimSpace(string(out)))
	}
	return strings.TrimSpace(string(out)), nil
}

// mounts maps each mount point to its device's number.
func mounts() map[string]string {
	res := map[string]string{}
	b, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return res
	}
	for _, line := range strings.Split(string(b), "\n") {
		if f := strings.Fields(line); len(f) > 4 {
			res[f[4]] = f[2]
		}
	}
	return res
}

func mounted(path string) bool {
	_, ok := mounts()[path]
	return ok
}

// mountsLike counts the mounts of the file system that is mounted at path.
func mountsLike(path string) (n int) {
	all := mounts()
	for _, dev := range all {
		if dev == all[path] {
			n++
		}
	}
	return n
}

func loops(img string) ([]string, error) {
	if _, err := os.Stat(img); errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	out, err := sh("losetup", "-n", "-O", "NAME", "-j", img)
	if err != nil || out == "" {
		return nil, err
	}
	return strings.Fields(out), nil
}

func attach(img string) (string, error) {
	have, err := loops(img)
	if err != nil {
		return "", err
	}
	if len(have) > 0 {
		return have[0], nil
	}
	return sh("losetup", "-f", "--show", img)
}

func detach(img string) error {
	have, err := loops(img)
	for _, l := range have {
		if _, e := sh("losetup", "-d", l); e != nil {
			err = e
		}
	}
	return err
}
