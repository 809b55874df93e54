// What every call must name, by the CSI specification, checked before it is looked at further.

package main

import (
	"strings"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// checkArguments refuses a request that lacks a required field.
func checkArguments(req any) error {
	var missing []string
	need := func(field string, there bool) {
		if !there {
			missing = append(missing, field)
		}
	}
	switch r := req.(type) {
	case *csi.CreateVolumeRequest:
		need("name", r.GetName() != "")
		need("volume_capabilities", len(r.GetVolumeCapabilities()) > 0)
	case *csi.DeleteVolumeRequest:
		need("volume_id", r.GetVolumeId() != "")
	case *csi.ValidateVolumeCapabilitiesRequest:
		need("volume_id", r.GetVolumeId() != "")
		need("volume_capabilities", len(r.GetVolumeCapabilities()) > 0)
	case *csi.CreateSnapshotRequest:
		need("name", r.GetName() != "")
		need("source_volume_id", r.GetSourceVolumeId() != "")
	case *csi.DeleteSnapshotRequest:
		need("snapshot_id", r.GetSnapshotId() != "")
	case *csi.ControllerExpandVolumeRequest:
		need("volume_id", r.GetVolumeId() != "")
		need("capacity_range", r.GetCapacityRange() != nil)
	case *csi.NodePublishVolumeRequest:
		need("volume_id", r.GetVolumeId() != "")
		need("target_path", r.GetTargetPath() != "")
		need("volume_capability", r.GetVolumeCapability() != nil)
	case *csi.NodeUnpublishVolumeRequest:
		need("volume_id", r.GetVolumeId() != "")
		need("target_path", r.GetTargetPath() != "")
	case *csi.NodeExpandVolumeRequest:
		need("volume_id", r.GetVolumeId() != "")
		need("volume_path", r.GetVolumePath() != "")
	case *csi.NodeGetVolumeStatsRequest:
		need("volume_id", r.GetVolumeId() != "")
		need("volume_path", r.GetVolumePath() != "")
	}
	if len(missing) > 0 {
		return status.Errorf(codes.InvalidArgument, "required: %s", strings.Join(missing, ", "))
	}
	return nil
}
