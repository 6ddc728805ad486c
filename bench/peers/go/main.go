// Asherah for Go, timed as the programs beside it are: a partition for each tenant, keys in its metastore in memory, a
// static master key, and sessions from its cache.
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"log"
	"os"
	"sort"
	"time"

	"github.com/godaddy/asherah/go/appencryption"
	"github.com/godaddy/asherah/go/appencryption/pkg/crypto/aead"
	"github.com/godaddy/asherah/go/appencryption/pkg/kms"
	"github.com/godaddy/asherah/go/appencryption/pkg/persistence"
)

// The same as in ../src/lib.rs.
const (
	tenants = 200
	rowSize = 1024
)

type peer struct {
	factory *appencryption.SessionFactory
	tenants []string
	row     []byte
	stored  [][]byte
}

func main() {
	budget := flag.Int("budget", 300, "milliseconds for each case")
	batch := flag.Int("batch", 50, "milliseconds that one measurement takes")
	flag.Parse()
	if err := run(time.Duration(*budget)*time.Millisecond, time.Duration(*batch)*time.Millisecond); err != nil {
		log.Fatal(err)
	}
}

func run(budget, batch time.Duration) error {
	crypto := aead.NewAES256GCM()
	master, err := kms.NewStatic("a static master key of 32 bytes.", crypto)
	if err != nil {
		return err
	}
	defer master.Close()
	config := &appencryption.Config{
		Service: "bench",
		Product: "kms",
		Policy:  appencryption.NewCryptoPolicy(appencryption.WithSessionCache()),
	}
	metastore := persistence.NewMemoryMetastore()
	p := &peer{
		factory: appencryption.NewSessionFactory(config, metastore, master, crypto),
		row:     bytes.Repeat([]byte{7}, rowSize),
	}
	defer p.factory.Close()
	ctx := context.Background()
	for number := range tenants {
		p.tenants = append(p.tenants, fmt.Sprintf("o_%010d", number))
		stored, err := p.encrypt(ctx, number)
		if err != nil {
			return err
		}
		p.stored = append(p.stored, stored)
		if row, err := p.decrypt(ctx, number); err != nil || !bytes.Equal(row, p.row) {
			return fmt.Errorf("another row came back: %w", err)
		}
	}
	if err := measure(ctx, "asherah_encrypt_1024", budget, batch, p.encrypt); err != nil {
		return err
	}
	return measure(ctx, "asherah_decrypt_1024", budget, batch, p.decrypt)
}

// encrypt is what an application does to write a row: a session from the cache, and the record that is stored.
func (p *peer) encrypt(ctx context.Context, tenant int) ([]byte, error) {
	session, err := p.factory.GetSession(p.tenants[tenant])
	if err != nil {
		return nil, err
	}
	defer session.Close()
	record, err := session.Encrypt(ctx, p.row)
	if err != nil {
		return nil, err
	}
	return json.Marshal(record)
}

// decrypt is what it does to read one.
func (p *peer) decrypt(ctx context.Context, tenant int) ([]byte, error) {
	session, err := p.factory.GetSession(p.tenants[tenant])
	if err != nil {
		return nil, err
	}
	defer session.Close()
	var record appencryption.DataRowRecord
	if err := json.Unmarshal(p.stored[tenant], &record); err != nil {
		return nil, err
	}
	return session.Decrypt(ctx, record)
}

// measure times by the wall's clock, as the other programs do: of many batches the fastest counts.
func measure(
	ctx context.Context, name string, budget, batch time.Duration, once func(context.Context, int) ([]byte, error),
) error {
	work := func(count int) (time.Duration, error) {
		start := time.Now()
		for n := range count {
			if _, err := once(ctx, n%tenants); err != nil {
				return 0, fmt.Errorf("%s: %w", name, err)
			}
		}
		return time.Since(start), nil
	}
	count := 1
	for {
		took, err := work(count)
		if err != nil {
			return err
		}
		if took >= batch/4 {
			count = max(1, int(float64(count)*float64(batch)/float64(took)))
			break
		}
		count *= 4
	}
	var samples []float64
	for deadline := time.Now().Add(budget); len(samples) < 5 || time.Now().Before(deadline); {
		took, err := work(count)
		if err != nil {
			return err
		}
		samples = append(samples, float64(took.Nanoseconds())/float64(count))
	}
	sort.Float64s(samples)
	return json.NewEncoder(os.Stdout).Encode(map[string]any{
		"case": name, "ns": samples[0], "median_ns": samples[len(samples)/2],
	})
}
