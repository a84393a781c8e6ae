package exchange

import (
	"sync/atomic"

	"github.com/modeltransfer/transfer/internal/pace"
)

// Slot is the permission to move a body. A caller keeps one from request to request where the first asks
// for a URL that is soon too old for the second: nothing is waited for between them. The zero value is
// none. It is used by one request at a time.
type Slot struct {
	held atomic.Pointer[pace.Slot] // nil before it was got, and after the body was sent
}

// Close gives the slot back, and lets others send.
func (s *Slot) Close() { s.held.Swap(nil).Release() }
