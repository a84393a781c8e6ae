module github.com/modeltransfer/transfer

go 1.26.0

require (
	github.com/opencontainers/go-digest v1.0.0
	github.com/stretchr/testify v1.10.0
	golang.org/x/sync v0.3.0
	golang.org/x/sys v0.1.0
)

require (
	github.com/davecgh/go-spew v1.1.1 // indirect
	github.com/pmezard/go-difflib v1.0.0 // indirect
	gopkg.in/yaml.v3 v3.0.1 // indirect
)
