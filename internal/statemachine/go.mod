module github.com/modeltransfer/transfer/internal/statemachine

go 1.26.0

replace github.com/modeltransfer/transfer => ../..

require (
	github.com/modeltransfer/transfer v0.0.0
	github.com/opencontainers/go-digest v1.0.0
	pgregory.net/rapid v1.2.0
)

require (
	golang.org/x/sync v0.24.0 // indirect
	golang.org/x/sys v0.49.0 // indirect
)
