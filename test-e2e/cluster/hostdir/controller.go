// The controller service: volumes and snapshots come and go.

package main

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"sort"
	"strconv"
	"strings"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/timestamppb"
)

func (d *driver) ControllerGetCapabilities(context.Context, *csi.ControllerGetCapabilitiesRequest) (*csi.ControllerGetCapabilitiesResponse, error) {
	var caps []*csi.ControllerServiceCapability
	for _, t := range []csi.ControllerServiceCapability_RPC_Type{
		csi.ControllerServiceCapability_RPC_CREATE_DELETE_VOLUME,
		csi.ControllerServiceCapability_RPC_CREATE_DELETE_SNAPSHOT,
		csi.ControllerServiceCapability_RPC_LIST_SNAPSHOTS,
		csi.ControllerServiceCapability_RPC_CLONE_VOLUME,
		csi.ControllerServiceCapability_RPC_EXPAND_VOLUME,
	} {
		caps = append(caps, &csi.ControllerServiceCapability{Type: &csi.ControllerServiceCapability_Rpc{Rpc: &csi.ControllerServiceCapability_RPC{Type: t}}})
	}
	return &csi.ControllerGetCapabilitiesResponse{Capabilities: caps}, nil
}

func (d *driver) ValidateVolumeCapabilities(_ context.Context, r *csi.ValidateVolumeCapabilitiesRequest) (*csi.ValidateVolumeCapabilitiesResponse, error) {
	if d.findVolume(func(v *volume) bool { return v.ID == r.GetVolumeId() }) == nil {
		return nil, status.Error(codes.NotFound, "no such volume")
	}
	return &csi.ValidateVolumeCapabilitiesResponse{Confirmed: &csi.ValidateVolumeCapabilitiesResponse_Confirmed{VolumeCapabilities: r.GetVolumeCapabilities()}}, nil
}

func (d *driver) CreateVolume(_ context.Context, r *csi.CreateVolumeRequest) (*csi.CreateVolumeResponse, error) {
	if err := d.injected("create-volume-fail"); err != nil {
		return nil, err
	}
	backing := r.GetParameters()["backing"]
	switch backing {
	case "":
		backing = backingDir
	case backingDir, backingExt4:
	default:
		return nil, status.Errorf(codes.InvalidArgument, "unknown backing %q", backing)
	}
	for _, c := range r.GetVolumeCapabilities() {
		if c.GetBlock() != nil {
			backing = backingBlock
		}
	}
	size := r.GetCapacityRange().GetRequiredBytes()
	if size == 0 {
		size = defaultSize
	}
	end, err := d.begin("name/" + r.GetName())
	if err != nil {
		return nil, err
	}
	defer end()
	v := d.findVolume(func(v *volume) bool { return v.Name == r.GetName() })
	if v != nil {
		if v.Size < size || v.Backing != backing {
			return nil, status.Error(codes.AlreadyExists, "a volume of that name differs")
		}
	} else {
		v = &volume{ID: "v-" + r.GetName(), Name: r.GetName(), Backing: backing, Size: size}
		if err := d.makeVolume(v, r.GetVolumeContentSource()); err != nil {
			_ = os.RemoveAll(d.volDir(v.ID))
			return nil, err
		}
		d.mu.Lock()
		d.vols[v.ID] = v
		d.mu.Unlock()
	}
	return &csi.CreateVolumeResponse{Volume: &csi.Volume{VolumeId: v.ID, CapacityBytes: v.Size, ContentSource: r.GetVolumeContentSource()}}, nil
}

func (d *driver) makeVolume(v *volume, src *csi.VolumeContentSource) error {
	dir := d.volDir(v.ID)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return status.Error(codes.Internal, err.Error())
	}
	from, fromBacking, fromSize, live := "", "", int64(0), false
	if s := src.GetSnapshot(); s != nil {
		sn := d.findSnapshot(func(x *snapshot) bool { return x.ID == s.GetSnapshotId() })
		if sn == nil {
			return status.Error(codes.NotFound, "no such snapshot")
		}
		from, fromBacking, fromSize, v.Source = d.snapDir(sn.ID), sn.Backing, sn.Size, sn.ID
	} else if s := src.GetVolume(); s != nil {
		sv := d.findVolume(func(x *volume) bool { return x.ID == s.GetVolumeId() })
		if sv == nil {
			return status.Error(codes.NotFound, "no such source volume")
		}
		from, fromBacking, fromSize, v.Source, live = d.volDir(sv.ID), sv.Backing, sv.Size, sv.ID, true
	}
	if from != "" && fromBacking != v.Backing {
		return status.Errorf(codes.InvalidArgument, "source has backing %s, volume %s", fromBacking, v.Backing)
	}
	if from != "" && v.Size < fromSize {
		return status.Errorf(codes.OutOfRange, "volume of %d bytes is smaller than its source of %d", v.Size, fromSize)
	}
	if err := d.fill(v, dir, from, live); err != nil {
		return status.Error(codes.Internal, err.Error())
	}
	if err := save(dir, v); err != nil {
		return status.Error(codes.Internal, err.Error())
	}
	return nil
}

func (d *driver) DeleteVolume(_ context.Context, r *csi.DeleteVolumeRequest) (*csi.DeleteVolumeResponse, error) {
	end, err := d.begin("id/" + r.GetVolumeId())
	if err != nil {
		return nil, err
	}
	defer end()
	v := d.findVolume(func(v *volume) bool { return v.ID == r.GetVolumeId() })
	if v == nil {
		return &csi.DeleteVolumeResponse{}, nil
	}
	dir := d.volDir(v.ID)
	if mounted(mnt(dir)) {
		if _, err := sh("umount", mnt(dir)); err != nil {
			return nil, status.Error(codes.FailedPrecondition, err.Error())
		}
	}
	if err := detach(image(dir)); err != nil {
		return nil, status.Error(codes.Internal, err.Error())
	}
	if err := os.Remove(filepath.Join(dir, "meta.json")); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, status.Error(codes.Internal, err.Error())
	}
	if err := os.RemoveAll(dir); err != nil {
		return nil, status.Error(codes.Internal, err.Error())
	}
	d.mu.Lock()
	delete(d.vols, v.ID)
	d.mu.Unlock()
	return &csi.DeleteVolumeResponse{}, nil
}

func (d *driver) snapshotToCSI(s *snapshot) *csi.Snapshot {
	return &csi.Snapshot{SnapshotId: s.ID, SourceVolumeId: s.Volume, SizeBytes: s.Size, CreationTime: timestamppb.New(s.Created), ReadyToUse: !d.isInjected("snapshot-not-ready")}
}

func (d *driver) CreateSnapshot(_ context.Context, r *csi.CreateSnapshotRequest) (*csi.CreateSnapshotResponse, error) {
	d.delayed("snapshot-slow")
	if err := d.injected("create-snapshot-fail"); err != nil {
		return nil, err
	}
	end, err := d.begin("snap/" + r.GetName())
	if err != nil {
		return nil, err
	}
	defer end()
	if s := d.findSnapshot(func(s *snapshot) bool { return s.Name == r.GetName() }); s != nil {
		if s.Volume != r.GetSourceVolumeId() {
			return nil, status.Error(codes.AlreadyExists, "a snapshot of that name has another source")
		}
		return &csi.CreateSnapshotResponse{Snapshot: d.snapshotToCSI(s)}, nil
	}
	v := d.findVolume(func(v *volume) bool { return v.ID == r.GetSourceVolumeId() })
	if v == nil {
		return nil, status.Error(codes.NotFound, "no such volume")
	}
	s := &snapshot{ID: "s-" + r.GetName(), Name: r.GetName(), Volume: v.ID, Backing: v.Backing, Size: v.Size, Created: time.Now()}
	dir := d.snapDir(s.ID)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, status.Error(codes.Internal, err.Error())
	}
	if err := copyContent(v.Backing, d.volDir(v.ID), dir, true); err != nil {
		_ = os.RemoveAll(dir)
		return nil, status.Error(codes.Internal, err.Error())
	}
	if err := save(dir, s); err != nil {
		return nil, status.Error(codes.Internal, err.Error())
	}
	d.mu.Lock()
	d.snaps[s.ID] = s
	d.mu.Unlock()
	return &csi.CreateSnapshotResponse{Snapshot: d.snapshotToCSI(s)}, nil
}

func (d *driver) DeleteSnapshot(_ context.Context, r *csi.DeleteSnapshotRequest) (*csi.DeleteSnapshotResponse, error) {
	end, err := d.begin("id/" + r.GetSnapshotId())
	if err != nil {
		return nil, err
	}
	defer end()
	if d.findSnapshot(func(s *snapshot) bool { return s.ID == r.GetSnapshotId() }) == nil {
		return &csi.DeleteSnapshotResponse{}, nil
	}
	if err := os.RemoveAll(d.snapDir(r.GetSnapshotId())); err != nil {
		return nil, status.Error(codes.Internal, err.Error())
	}
	d.mu.Lock()
	delete(d.snaps, r.GetSnapshotId())
	d.mu.Unlock()
	return &csi.DeleteSnapshotResponse{}, nil
}

func (d *driver) ListSnapshots(_ context.Context, r *csi.ListSnapshotsRequest) (*csi.ListSnapshotsResponse, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	res := &csi.ListSnapshotsResponse{}
	for _, s := range d.snaps {
		if (r.GetSnapshotId() == "" || s.ID == r.GetSnapshotId()) && (r.GetSourceVolumeId() == "" || s.Volume == r.GetSourceVolumeId()) {
			res.Entries = append(res.Entries, &csi.ListSnapshotsResponse_Entry{Snapshot: d.snapshotToCSI(s)})
		}
	}
	sort.Slice(res.Entries, func(i, j int) bool { return res.Entries[i].Snapshot.SnapshotId < res.Entries[j].Snapshot.SnapshotId })
	// A token is the id after which the next page begins, so that deletions in between do no harm.
	if token := r.GetStartingToken(); token != "" {
		if !strings.HasPrefix(token, "after:") {
			return nil, status.Error(codes.Aborted, "starting_token is not one of ours")
		}
		after := strings.TrimPrefix(token, "after:")
		first := sort.Search(len(res.Entries), func(i int) bool { return res.Entries[i].Snapshot.SnapshotId > after })
		res.Entries = res.Entries[first:]
	}
	if most := int(r.GetMaxEntries()); most > 0 && len(res.Entries) > most {
		res.Entries = res.Entries[:most]
		res.NextToken = "after:" + res.Entries[most-1].Snapshot.SnapshotId
	}
	return res, nil
}

func (d *driver) ControllerExpandVolume(_ context.Context, r *csi.ControllerExpandVolumeRequest) (*csi.ControllerExpandVolumeResponse, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	v := d.vols[r.GetVolumeId()]
	if v == nil {
		return nil, status.Error(codes.NotFound, "no such volume")
	}
	size := r.GetCapacityRange().GetRequiredBytes()
	if size > v.Size {
		grown := *v
		grown.Size = size
		if v.Backing != backingDir {
			if _, err := sh("truncate", "-s", strconv.FormatInt(size, 10), image(d.volDir(v.ID))); err != nil {
				return nil, status.Error(codes.Internal, err.Error())
			}
		}
		if err := save(d.volDir(v.ID), &grown); err != nil {
			return nil, status.Error(codes.Internal, err.Error())
		}
		d.vols[v.ID] = &grown
		v = &grown
	}
	return &csi.ControllerExpandVolumeResponse{CapacityBytes: v.Size, NodeExpansionRequired: v.Backing != backingDir}, nil
}
