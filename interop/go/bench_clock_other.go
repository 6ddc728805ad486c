//go:build !linux

package main

import "time"

var started = time.Now()

// threadTime is the time that passed: what a thread works is told on Linux only.
func threadTime() time.Duration { return time.Since(started) }
