package main

import (
	"context"
	"fmt"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
)

// etcd is three members with the settings of its package.
type etcd struct {
	folder  string
	members [3]*process
}

func startEtcd(folder string) (system, error) {
	e := &etcd{folder: folder}
	for node := range 3 {
		if err := e.launch(node, "new"); err != nil {
			e.stop()
			return nil, err
		}
	}
	if err := until("etcd takes writes", time.Minute, e.healthy); err != nil {
		e.stop()
		return nil, err
	}
	return e, nil
}

func (e *etcd) launch(node int, state string) error {
	var cluster []string
	for n := range 3 {
		cluster = append(cluster, fmt.Sprintf("n%d=http://127.0.0.1:2%d80", n, n+1))
	}
	clients, peers := fmt.Sprintf("http://127.0.0.1:2%d79", node+1), fmt.Sprintf("http://127.0.0.1:2%d80", node+1)
	name := fmt.Sprintf("n%d", node)
	member, err := launch(filepath.Join(e.folder, name+".log"), nil, "etcd", "--name", name,
		"--data-dir", filepath.Join(e.folder, name), "--listen-client-urls", clients, "--advertise-client-urls", clients,
		"--listen-peer-urls", peers, "--initial-advertise-peer-urls", peers,
		"--initial-cluster", strings.Join(cluster, ","), "--initial-cluster-state", state, "--quota-backend-bytes", "8000000000",
		"--max-txn-ops", strconv.Itoa(etcdOpsMax))
	e.members[node] = member
	return err
}

func (e *etcd) describe() string {
	return output("etcd", "--version") + "; gRPC, one HTTP/2 connection for each client, spread over three members; batches are transactions (--max-txn-ops); fsync as shipped"
}

func (e *etcd) can(kind) bool { return true }

func (e *etcd) healthy() error {
	for node := range 3 {
		c, err := e.client(node)
		if err != nil {
			return err
		}
		err = c.update("health", []byte("1"))
		c.close()
		if err != nil {
			return err
		}
	}
	return nil
}

func (e *etcd) client(node int) (client, error) {
	c, err := clientv3.New(clientv3.Config{
		Endpoints:   []string{fmt.Sprintf("127.0.0.1:2%d79", node+1)},
		DialTimeout: 5 * time.Second,
		Logger:      zap.NewNop(),
	})
	return &etcdClient{c: c}, err
}

func (e *etcd) kill(node int) error {
	e.members[node].end(syscall.SIGKILL, time.Second)
	return nil
}

func (e *etcd) restart(node int) error {
	if err := e.launch(node, "existing"); err != nil {
		return err
	}
	return until("etcd takes writes again", time.Minute, e.healthy)
}

func (e *etcd) stop() {
	for _, member := range e.members {
		member.end(syscall.SIGTERM, 5*time.Second)
	}
}

type etcdClient struct {
	c    *clientv3.Client
	seen int64 // revision of the key that conditional changes
}

func deadline() (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.Background(), patience)
}

func (c *etcdClient) insert(key string, value []byte) error {
	ctx, cancel := deadline()
	defer cancel()
	absent := clientv3.Compare(clientv3.CreateRevision(key), "=", 0)
	answer, err := c.c.Txn(ctx).If(absent).Then(clientv3.OpPut(key, string(value))).Commit()
	if err == nil && !answer.Succeeded {
		err = fmt.Errorf("%s is there already", key)
	}
	return err
}

func (c *etcdClient) update(key string, value []byte) error {
	ctx, cancel := deadline()
	defer cancel()
	_, err := c.c.Put(ctx, key, string(value))
	return err
}

func (c *etcdClient) conditional(key string, value []byte) error {
	ctx, cancel := deadline()
	defer cancel()
	unchanged := clientv3.Compare(clientv3.ModRevision(key), "=", c.seen)
	answer, err := c.c.Txn(ctx).If(unchanged).Then(clientv3.OpPut(key, string(value))).Else(clientv3.OpGet(key)).Commit()
	if err != nil {
		return err
	}
	if answer.Succeeded {
		c.seen = answer.Header.Revision
		return nil
	}
	if kvs := answer.Responses[0].GetResponseRange().GetKvs(); len(kvs) > 0 {
		c.seen = kvs[0].ModRevision
	}
	return errConflict
}

func (c *etcdClient) get(key string, options ...clientv3.OpOption) error {
	ctx, cancel := deadline()
	defer cancel()
	answer, err := c.c.Get(ctx, key, options...)
	if err == nil && len(answer.Kvs) == 0 {
		err = fmt.Errorf("%s is not there", key)
	}
	return err
}

func (c *etcdClient) local(key string) error  { return c.get(key, clientv3.WithSerializable()) }
func (c *etcdClient) latest(key string) error { return c.get(key) }

func (c *etcdClient) list(first string, count int) error {
	return c.get(first, clientv3.WithFromKey(), clientv3.WithLimit(int64(count)), clientv3.WithSerializable())
}

// etcdOpsMax: operations of a transaction. It takes 128 unless it is told otherwise; a request may have 1.5 MiB.
const etcdOpsMax = 1_000

// bulk writes all in one transaction, or as few as its bound permits.
func (c *etcdClient) bulk(keys []string, value []byte) error {
	for len(keys) > 0 {
		part := keys[:min(len(keys), etcdOpsMax)]
		keys = keys[len(part):]
		puts := make([]clientv3.Op, len(part))
		for i, key := range part {
			puts[i] = clientv3.OpPut(key, string(value))
		}
		ctx, cancel := deadline()
		_, err := c.c.Txn(ctx).Then(puts...).Commit()
		cancel()
		if err != nil {
			return err
		}
	}
	return nil
}

func (c *etcdClient) close() { c.c.Close() }
