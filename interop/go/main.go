// Command kms-interop-go is the Go system behind a pipe: it does with the published modules what the
// other side of the interoperation tests tells it to.
//
//	serve   one JSON request per line of standard input, one JSON answer per line of standard output
//	stress  random operations on a shared database for a bounded time, then one JSON report
//	bench   timings, as JSON
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"strings"

	kms "github.com/hashicorp/go-kms-wrapping/extras/kms/v2"
)

// settings are those of every mode.
type settings struct {
	dialect     string
	dsn         string
	root        string
	prefix      string
	purposes    string
	connections int
}

func (s *settings) register(flags *flag.FlagSet) {
	flags.StringVar(&s.dialect, "dialect", "sqlite", "postgres or sqlite")
	flags.StringVar(&s.dsn, "dsn", "", "address of the database")
	flags.StringVar(&s.root, "root", "", "aead:HEX, awskms or transit")
	flags.StringVar(&s.prefix, "prefix", kms.DefaultTableNamePrefix, "prefix of the table names")
	flags.StringVar(&s.purposes, "purposes", "database,oidc,sessions", "purposes, separated by commas")
	flags.IntVar(&s.connections, "connections", 4, "connections to the database at most")
}

func (s *settings) keyPurposes() []kms.KeyPurpose {
	var purposes []kms.KeyPurpose
	for _, purpose := range strings.Split(s.purposes, ",") {
		purposes = append(purposes, kms.KeyPurpose(purpose))
	}
	return purposes
}

func main() {
	if len(os.Args) < 2 {
		fail(fmt.Errorf("usage: kms-interop-go serve|stress|bench [flags]"))
	}
	var s settings
	flags := flag.NewFlagSet(os.Args[1], flag.ExitOnError)
	s.register(flags)
	ctx := context.Background()
	var err error
	switch os.Args[1] {
	case "serve":
		_ = flags.Parse(os.Args[2:])
		err = serve(ctx, &s, os.Stdin, os.Stdout)
	case "stress":
		var plan stressPlan
		plan.register(flags)
		_ = flags.Parse(os.Args[2:])
		err = stress(ctx, &s, &plan, os.Stdout)
	case "bench":
		var plan benchPlan
		plan.register(flags)
		_ = flags.Parse(os.Args[2:])
		err = bench(ctx, &s, &plan, os.Stdout)
	default:
		err = fmt.Errorf("unknown mode %q", os.Args[1])
	}
	if err != nil {
		fail(err)
	}
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, "kms-interop-go:", err)
	os.Exit(1)
}
