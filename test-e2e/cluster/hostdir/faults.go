// Faults that a test asks for, each by a file in the directory "faults" below --root.
//
//	create-volume-fail, create-snapshot-fail   the call fails with the file's text
//	snapshot-slow                              a snapshot takes so many seconds
//	snapshot-not-ready                         snapshots are made, and are not ready while the file is there

package main

import (
	"log"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// asked returns what the file of a fault says, and whether it is there.
func (d *driver) asked(fault string) (string, bool) {
	text, err := os.ReadFile(filepath.Join(d.root, "faults", fault))
	return strings.TrimSpace(string(text)), err == nil
}

func (d *driver) isInjected(fault string) bool {
	_, there := d.asked(fault)
	return there
}

func (d *driver) injected(fault string) error {
	if text, there := d.asked(fault); there {
		return status.Errorf(codes.Internal, "injected: %s", text)
	}
	return nil
}

func (d *driver) delayed(fault string) {
	text, there := d.asked(fault)
	if !there {
		return
	}
	seconds, err := strconv.Atoi(text)
	if err != nil {
		log.Printf("%s: not a number of seconds: %q", fault, text)
		return
	}
	time.Sleep(time.Duration(seconds) * time.Second)
}
