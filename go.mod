module github.com/modeltransfer/transfer

go 1.26.0

require (
	github.com/opencontainers/go-digest v1.0.0
	github.com/stretchr/testify v1.12.1
	golang.org/x/sync v0.24.0
	golang.org/x/sys v0.49.0
)

require go.yaml.in/yaml/v3 v3.0.5 // indirect
