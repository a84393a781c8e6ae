module github.com/modeltransfer/transfer/model

go 1.26.0

require (
	github.com/klauspost/compress v1.20.3
	github.com/modeltransfer/transfer v0.0.0-00010101000000-000000000000
	github.com/opencontainers/go-digest v1.0.0
	github.com/opencontainers/image-spec v1.1.1
	github.com/stretchr/testify v1.12.1
	golang.org/x/sync v0.24.0
	golang.org/x/sys v0.49.0
	golang.org/x/text v0.43.0
)

require go.yaml.in/yaml/v3 v3.0.5 // indirect

replace github.com/modeltransfer/transfer => ..
