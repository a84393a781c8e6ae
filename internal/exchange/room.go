package exchange

import (
	"sync/atomic"

	"github.com/modeltransfer/transfer/internal/pace"
)

// Room is room for a body. A caller keeps one from request to request where the first asks for a URL that is
// soon too old for the second: no room is waited for between them. The zero value has none. It is used by one
// request at a time.
type Room struct {
	slot atomic.Pointer[pace.Slot] // nil before there is room, and after the body was sent
}

// Close gives the room back, and lets others send.
func (r *Room) Close() { r.slot.Swap(nil).Release() }
