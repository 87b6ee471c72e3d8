//go:build tools

// Package tools names the program that install.sh builds, so that go.mod and go.sum pin all that it is built of.
package tools

import _ "github.com/jaegertracing/jaeger/cmd/all-in-one"
