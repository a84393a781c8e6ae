package wan_test

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"os/exec"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/modeltransfer/transfer/internal/bench/wan"
)

const (
	roleVariable = "WAN_TEST_ROLE"
	address      = wan.ServerAddress + ":7000"
	bytesSent    = 1 << 20
)

// TestMain lets the test binary be the programs on both sides too.
func TestMain(m *testing.M) {
	switch os.Getenv(roleVariable) {
	case "server":
		send()
	case "client":
		receive()
	default:
		os.Exit(m.Run())
	}
}

func send() {
	l, err := net.Listen("tcp", address)
	if err != nil {
		panic(err)
	}
	c, err := l.Accept()
	if err != nil {
		panic(err)
	}
	_, _ = c.Write(make([]byte, bytesSent))
	_ = c.Close()
}

func receive() {
	for {
		c, err := net.Dial("tcp", address)
		if err != nil {
			time.Sleep(10 * time.Millisecond) // the server is not up yet
			continue
		}
		if n, err := io.Copy(io.Discard, c); n != bytesSent {
			panic(err)
		}
		return
	}
}

func TestBytesCrossTheNetwork(t *testing.T) {
	const rtt = 40 * time.Millisecond
	n, err := wan.Up(wan.Link{RTT: rtt, Rate: 100e6, Queue: 100 * time.Millisecond, Congestion: "reno"})
	if errors.Is(err, wan.ErrUnavailable) {
		t.Skip(err)
	}
	require.NoError(t, err)
	self, err := os.Executable()
	require.NoError(t, err)
	program := func(role string) *exec.Cmd {
		c := exec.Command(self)
		c.Env = append(os.Environ(), roleVariable+"="+role)
		c.Stderr = &bytes.Buffer{}
		return c
	}
	server, client := program("server"), program("client")
	require.NoError(t, n.StartServer(server))
	start := time.Now()
	require.NoError(t, n.StartClient(client))
	assert.NoError(t, client.Wait(), client.Stderr)
	assert.NoError(t, server.Wait(), server.Stderr)
	assert.Greater(t, time.Since(start), 2*rtt, "connecting and the first byte take a round trip each")
	n.Down()
}

func TestUnknownCongestionControl(t *testing.T) {
	_, err := wan.Up(wan.Link{RTT: time.Millisecond, Rate: 1e6, Congestion: "no-such"})
	require.ErrorIs(t, err, wan.ErrUnavailable)
	if os.Getuid() == 0 {
		assert.ErrorContains(t, err, "no-such")
	}
}
