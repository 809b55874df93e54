// hostdir is a single-node CSI driver for test clusters: directories (or sparse
// files behind loop devices) under --root are volumes. It registers itself with
// the kubelet, so no node-driver-registrar is needed.
//
// StorageClass parameter "backing":
//
//	dir  (default) a plain directory; no size enforced
//	ext4           a sparse image with its own ext4, loop mounted; size enforced
//
// volumeMode: Block always uses a sparse image behind a loop device.
package main

import (
	"context"
	"errors"
	"flag"
	"log"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc"
	registerapi "k8s.io/kubelet/pkg/apis/pluginregistration/v1"
)

type registration struct {
	registerapi.UnsafeRegistrationServer
	name, endpoint string
}

func (r *registration) GetInfo(context.Context, *registerapi.InfoRequest) (*registerapi.PluginInfo, error) {
	return &registerapi.PluginInfo{Type: registerapi.CSIPlugin, Name: r.name, Endpoint: r.endpoint, SupportedVersions: []string{"1.0.0"}}, nil
}

func (r *registration) NotifyRegistrationStatus(_ context.Context, s *registerapi.RegistrationStatus) (*registerapi.RegistrationStatusResponse, error) {
	log.Printf("kubelet registration: registered=%v %s", s.PluginRegistered, s.Error)
	return &registerapi.RegistrationStatusResponse{}, nil
}

func serve(socket string, register func(*grpc.Server)) error {
	if err := os.Remove(socket); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(socket), 0o750); err != nil {
		return err
	}
	l, err := net.Listen("unix", socket)
	if err != nil {
		return err
	}
	s := grpc.NewServer(grpc.UnaryInterceptor(func(ctx context.Context, req any, info *grpc.UnaryServerInfo, h grpc.UnaryHandler) (any, error) {
		t := time.Now()
		if err := checkArguments(req); err != nil {
			return nil, err
		}
		res, err := h(ctx, req)
		if err != nil {
			log.Printf("%s: %v", info.FullMethod, err)
		} else if took := time.Since(t); took > time.Second {
			log.Printf("%s took %v", info.FullMethod, took)
		}
		return res, err
	}))
	register(s)
	return s.Serve(l)
}

func main() {
	d := &driver{vols: map[string]*volume{}, snaps: map[string]*snapshot{}, busy: map[string]bool{}}
	var endpoint, registry string
	flag.StringVar(&d.name, "driver", "hostdir.csi.local", "driver name")
	flag.StringVar(&d.node, "node", "node1", "node name")
	flag.StringVar(&d.root, "root", "", "directory for volumes and snapshots")
	flag.StringVar(&endpoint, "endpoint", "", "socket to serve CSI on")
	flag.StringVar(&registry, "registry", "", "the kubelet's plugins_registry directory")
	flag.Parse()
	syscall.Umask(0)
	if err := load(filepath.Join(d.root, "volumes"), func(v *volume) { d.vols[v.ID] = v }); err != nil {
		log.Fatal(err)
	}
	if err := load(filepath.Join(d.root, "snapshots"), func(s *snapshot) { d.snaps[s.ID] = s }); err != nil {
		log.Fatal(err)
	}
	if registry == "" { // no kubelet, as under csi-sanity
		registry = d.root
	}
	go func() {
		log.Fatal(serve(filepath.Join(registry, d.name+"-reg.sock"), func(s *grpc.Server) {
			registerapi.RegisterRegistrationServer(s, &registration{name: d.name, endpoint: endpoint})
		}))
	}()
	log.Fatal(serve(endpoint, func(s *grpc.Server) {
		csi.RegisterIdentityServer(s, d)
		csi.RegisterControllerServer(s, d)
		csi.RegisterNodeServer(s, d)
	}))
}
