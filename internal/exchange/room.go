package exchange

import (
	"sync/atomic"

	"github.com/modeltransfer/transfer/internal/pace"
	"github.com/modeltransfer/transfer/internal/retry"
)

// Room is room for a body. A caller keeps one from request to request where the first asks for a URL that is
// soon too old for the second: no room is waited for between them. The zero value has none. It is used by one
// request at a time.
type Room struct {
	slot   atomic.Pointer[pace.Slot] // nil before there is room, and after the body was sent
	budget *retry.Budget             // knows that there is room, where not nil
}

// Close gives the room back.
func (r *Room) Close() {
	r.release()
	r.rest()
}

// release lets others send.
func (r *Room) release() { r.slot.Swap(nil).Release() }

// rest tells the budget that there is no room for now or any more.
func (r *Room) rest() {
	if r.budget != nil {
		r.budget.Rest()
		r.budget = nil
	}
}

// take notes that there is room.
func (r *Room) take(slot *pace.Slot, b *retry.Budget) {
	r.slot.Store(slot)
	r.budget = b
}
