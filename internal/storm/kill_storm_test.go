//go:build linux && storm

package storm

import "testing"

func TestS14TwentyKillsOfALargeBlob(t *testing.T) { killAndResume(t, 4<<30, 20) }
