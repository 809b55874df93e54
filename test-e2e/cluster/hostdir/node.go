// The node service: volumes appear in pods.

package main

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

func (d *driver) NodeGetInfo(context.Context, *csi.NodeGetInfoRequest) (*csi.NodeGetInfoResponse, error) {
	return &csi.NodeGetInfoResponse{NodeId: d.node}, nil
}

func (d *driver) NodeGetCapabilities(context.Context, *csi.NodeGetCapabilitiesRequest) (*csi.NodeGetCapabilitiesResponse, error) {
	var caps []*csi.NodeServiceCapability
	for _, t := range []csi.NodeServiceCapability_RPC_Type{
		csi.NodeServiceCapability_RPC_EXPAND_VOLUME,
		csi.NodeServiceCapability_RPC_GET_VOLUME_STATS,
	} {
		caps = append(caps, &csi.NodeServiceCapability{Type: &csi.NodeServiceCapability_Rpc{Rpc: &csi.NodeServiceCapability_RPC{Type: t}}})
	}
	return &csi.NodeGetCapabilitiesResponse{Capabilities: caps}, nil
}

func (d *driver) NodePublishVolume(_ context.Context, r *csi.NodePublishVolumeRequest) (*csi.NodePublishVolumeResponse, error) {
	end, err := d.begin("id/" + r.GetVolumeId())
	if err != nil {
		return nil, err
	}
	defer end()
	v := d.findVolume(func(v *volume) bool { return v.ID == r.GetVolumeId() })
	if v == nil {
		return nil, status.Error(codes.NotFound, "no such volume")
	}
	if (r.GetVolumeCapability().GetBlock() != nil) != (v.Backing == backingBlock) {
		return nil, status.Error(codes.InvalidArgument, "volume mode does not match")
	}
	if err := d.publish(v, r.GetTargetPath(), r.GetReadonly(), r.GetVolumeCapability().GetMount().GetMountFlags()); err != nil {
		return nil, status.Error(codes.Internal, err.Error())
	}
	return &csi.NodePublishVolumeResponse{}, nil
}

func (d *driver) publish(v *volume, target string, readonly bool, flags []string) error {
	if mounted(target) {
		return nil
	}
	dir, from := d.volDir(v.ID), ""
	if err := os.MkdirAll(filepath.Dir(target), 0o750); err != nil {
		return err
	}
	if v.Backing == backingBlock {
		loop, err := attach(image(dir))
		if err != nil {
			return err
		}
		f, err := os.OpenFile(target, os.O_CREATE, 0o660)
		if err != nil {
			return err
		}
		_ = f.Close()
		from = loop
	} else {
		if err := os.MkdirAll(target, 0o750); err != nil {
			return err
		}
		from = data(dir)
		if v.Backing == backingExt4 {
			from = mnt(dir)
			if !mounted(from) {
				if err := os.MkdirAll(from, 0o700); err != nil {
					return err
				}
				if v.FSSize != v.Size {
					if err := growExt4(image(dir)); err != nil {
						return err
					}
					if err := d.grown(v.ID, v.Size); err != nil {
						return err
					}
				}
				loop, err := attach(image(dir))
				if err != nil {
					return err
				}
				if _, err := sh("mount", "-t", "ext4", loop, from); err != nil {
					return err
				}
			}
		}
	}
	if _, err := sh("mount", "--bind", from, target); err != nil {
		return err
	}
	opts := flags
	if readonly && v.Backing != backingBlock {
		opts = append(opts, "ro")
	}
	if len(opts) == 0 {
		return nil
	}
	_, err := sh("mount", "-o", "remount,bind,"+strings.Join(opts, ","), target)
	return err
}

func (d *driver) NodeUnpublishVolume(_ context.Context, r *csi.NodeUnpublishVolumeRequest) (*csi.NodeUnpublishVolumeResponse, error) {
	end, err := d.begin("id/" + r.GetVolumeId())
	if err != nil {
		return nil, err
	}
	defer end()
	v := d.findVolume(func(v *volume) bool { return v.ID == r.GetVolumeId() })
	if v == nil {
		return nil, status.Error(codes.NotFound, "no such volume")
	}
	target := r.GetTargetPath()
	for mounted(target) {
		if _, err := sh("umount", target); err != nil {
			return nil, status.Error(codes.Internal, err.Error())
		}
	}
	if err := os.Remove(target); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, status.Error(codes.Internal, err.Error())
	}
	// the last user of an ext4 volume unmounts it, so that it can grow and its loop device is free
	dir := d.volDir(v.ID)
	if m := mnt(dir); mounted(m) && mountsLike(m) == 1 {
		if _, err := sh("umount", m); err != nil {
			return nil, status.Error(codes.Internal, err.Error())
		}
		if err := detach(image(dir)); err != nil {
			return nil, status.Error(codes.Internal, err.Error())
		}
	}
	return &csi.NodeUnpublishVolumeResponse{}, nil
}

func (d *driver) NodeExpandVolume(_ context.Context, r *csi.NodeExpandVolumeRequest) (*csi.NodeExpandVolumeResponse, error) {
	v := d.findVolume(func(v *volume) bool { return v.ID == r.GetVolumeId() })
	if v == nil {
		return nil, status.Error(codes.NotFound, "no such volume")
	}
	have, err := loops(image(d.volDir(v.ID)))
	if err == nil {
		for _, l := range have {
			if _, err = sh("losetup", "-c", l); err == nil && v.Backing == backingExt4 && v.FSSize != v.Size {
				// needs CAP_SYS_RESOURCE; without it the volume grows when it is next published
				if _, err = sh("resize2fs", l); err == nil {
					err = d.grown(v.ID, v.Size)
				}
			}
		}
	}
	if err != nil {
		return nil, status.Error(codes.Internal, err.Error())
	}
	return &csi.NodeExpandVolumeResponse{CapacityBytes: v.Size}, nil
}

func (d *driver) NodeGetVolumeStats(_ context.Context, r *csi.NodeGetVolumeStatsRequest) (*csi.NodeGetVolumeStatsResponse, error) {
	v := d.findVolume(func(v *volume) bool { return v.ID == r.GetVolumeId() })
	if v == nil || !mounted(r.GetVolumePath()) {
		return nil, status.Error(codes.NotFound, "no such volume there")
	}
	if v.Backing == backingBlock {
		return &csi.NodeGetVolumeStatsResponse{Usage: []*csi.VolumeUsage{{Unit: csi.VolumeUsage_BYTES, Total: v.Size}}}, nil
	}
	var s syscall.Statfs_t
	if err := syscall.Statfs(r.GetVolumePath(), &s); err != nil {
		return nil, status.Error(codes.Internal, err.Error())
	}
	return &csi.NodeGetVolumeStatsResponse{Usage: []*csi.VolumeUsage{
		{Unit: csi.VolumeUsage_BYTES, Total: int64(s.Blocks) * s.Bsize, Available: int64(s.Bavail) * s.Bsize, Used: int64(s.Blocks-s.Bfree) * s.Bsize},
		{Unit: csi.VolumeUsage_INODES, Total: int64(s.Files), Available: int64(s.Ffree), Used: int64(s.Files - s.Ffree)},
	}}, nil
}
