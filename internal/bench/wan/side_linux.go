package wan

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"runtime"

	"golang.org/x/sys/unix"
)

// device is the name of the network device on both sides.
const device = "wan0"

// side is one end of a network: a namespace with one device, whose packets are read from and written to tun.
type side struct {
	namespace *os.File // keeps it alive, though it has no name
	tun       *os.File
}

// newSide makes a namespace without a name, which is gone with the last process and file of it.
func newSide(address, peer, congestion string) (s *side, err error) {
	s = &side{}
	err = onThread(func() error {
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("new network namespace: %w", err)
		}
		if s.namespace, err = os.Open("/proc/thread-self/ns/net"); err != nil {
			return err
		}
		if s.tun, err = openTun(); err != nil {
			return err
		}
		if err := configure(address, peer); err != nil {
			return err
		}
		return tune(congestion)
	})
	if err != nil {
		s.close()
		return nil, err
	}
	return s, nil
}

// onThread calls f on a thread of its own, which ends with it: its namespace is of no use to others.
func onThread(f func() error) error {
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // and never unlock
		done <- f()
	}()
	return <-done
}

// openTun makes the device. It does not block, so that closing it ends a read.
func openTun() (*os.File, error) {
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("/dev/net/tun: %w", err)
	}
	request, err := unix.NewIfreq(device)
	if err != nil {
		return nil, errors.Join(err, unix.Close(fd))
	}
	request.SetUint16(unix.IFF_TUN | unix.IFF_NO_PI)
	if err := unix.IoctlIfreq(fd, unix.TUNSETIFF, request); err != nil {
		return nil, errors.Join(fmt.Errorf("TUNSETIFF: %w", err), unix.Close(fd))
	}
	return os.NewFile(uintptr(fd), device), nil
}

// configure gives the devices of the namespace addresses, and brings them up.
func configure(address, peer string) error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	set := func(name string, what uint, fill func(*unix.Ifreq) error) error {
		r, err := unix.NewIfreq(name)
		if err == nil {
			err = fill(r)
		}
		if err == nil {
			err = unix.IoctlIfreq(fd, what, r)
		}
		if err != nil {
			return fmt.Errorf("%s, ioctl %#x: %w", name, what, err)
		}
		return nil
	}
	ip := func(s string) func(*unix.Ifreq) error {
		return func(r *unix.Ifreq) error { return r.SetInet4Addr(net.ParseIP(s).To4()) }
	}
	number := func(n uint32) func(*unix.Ifreq) error {
		return func(r *unix.Ifreq) error { r.SetUint32(n); return nil }
	}
	up := func(r *unix.Ifreq) error { r.SetUint16(unix.IFF_UP | unix.IFF_RUNNING); return nil }
	return errors.Join(
		set(device, unix.SIOCSIFADDR, ip(address)),
		set(device, unix.SIOCSIFDSTADDR, ip(peer)),
		set(device, unix.SIOCSIFMTU, number(mtu)),
		set(device, unix.SIOCSIFTXQLEN, number(txQueue)),
		set(device, unix.SIOCSIFFLAGS, up),
		set("lo", unix.SIOCSIFFLAGS, up),
	)
}

// tune sets the congestion control of the namespace.
func tune(congestion string) error {
	const file = "/proc/sys/net/ipv4/tcp_congestion_control"
	if err := os.WriteFile(file, []byte(congestion), 0o644); err != nil {
		return fmt.Errorf("congestion control %q is not to be had: %w", congestion, err)
	}
	return nil
}

// start starts a program in the namespace.
func (s *side) start(c *exec.Cmd) error {
	return onThread(func() error {
		if err := unix.Setns(int(s.namespace.Fd()), unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("enter the network namespace: %w", err)
		}
		return c.Start() // a child has the namespace of the thread that starts it
	})
}

func (s *side) close() {
	for _, f := range []*os.File{s.tun, s.namespace} {
		if f != nil {
			_ = f.Close()
		}
	}
}
