package referrers

import (
	"context"
	"sync"
)

// locks has the lists that are being changed in this process.
var locks keyed

// keyed is a lock for each key. In the zero value all are free.
type keyed struct {
	mu    sync.Mutex
	taken map[string]chan struct{} // closed when the lock is free again; guarded by mu
}

// lock waits until nobody else has the lock of a key.
func (k *keyed) lock(ctx context.Context, key string) (unlock func(), err error) {
	for {
		k.mu.Lock()
		other := k.taken[key]
		if other == nil {
			break
		}
		k.mu.Unlock()
		select {
		case <-other:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
	defer k.mu.Unlock()
	if k.taken == nil {
		k.taken = make(map[string]chan struct{})
	}
	done := make(chan struct{})
	k.taken[key] = done
	return func() {
		k.mu.Lock()
		defer k.mu.Unlock()
		delete(k.taken, key)
		close(done)
	}, nil
}
