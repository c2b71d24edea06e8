package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/go-sql-driver/mysql"
)

// galera is three MariaDB nodes with commits that are flushed.
type galera struct {
	folder string
	nodes  [3]*process
}

func startGalera(folder string) (system, error) {
	g := &galera{folder: folder}
	if err := chown(folder); err != nil {
		return nil, err
	}
	for node := range 3 {
		data := filepath.Join(folder, fmt.Sprintf("n%d", node))
		install := exec.Command("mariadb-install-db", "--user=mysql", "--datadir="+data, "--auth-root-authentication-method=normal")
		if text, err := install.CombinedOutput(); err != nil {
			return nil, fmt.Errorf("mariadb-install-db: %w: %s", err, text)
		}
		if err := g.launch(node, node == 0); err != nil {
			g.stop()
			return nil, err
		}
		if err := until("Galera is Synced", time.Minute, func() error { return g.synced(node) }); err != nil {
			g.stop()
			return nil, err
		}
	}
	return g, g.prepare()
}

func chown(folder string) error {
	text, err := exec.Command("chown", "mysql", folder).CombinedOutput()
	if err != nil {
		return fmt.Errorf("chown mysql %s: %w: %s", folder, err, text)
	}
	// The data lie below folders of root; every one of them has to let mysql through.
	for parent := filepath.Dir(folder); parent != "/"; parent = filepath.Dir(parent) {
		if info, err := os.Stat(parent); err == nil && info.Mode()&0o001 == 0 {
			return fmt.Errorf("%s must let the user mysql through (chmod o+x), or give another -data", parent)
		}
	}
	return nil
}

func (g *galera) launch(node int, isFirst bool) error {
	name := fmt.Sprintf("n%d", node)
	base := 3500 + node + 1
	options := fmt.Sprintf("base_port=%d;gmcast.listen_addr=tcp://127.0.0.1:%d;ist.recv_addr=127.0.0.1:%d", base, base, base+100)
	arguments := []string{"--no-defaults", "--user=mysql", "--datadir=" + filepath.Join(g.folder, name),
		"--socket=" + filepath.Join(g.folder, name+".sock"), fmt.Sprintf("--port=%d", 3401+node), "--bind-address=127.0.0.1",
		"--pid-file=" + filepath.Join(g.folder, name+".pid"),
		"--binlog-format=ROW", "--default-storage-engine=InnoDB", "--innodb-autoinc-lock-mode=2",
		"--innodb-flush-log-at-trx-commit=1", "--sync-binlog=0", "--innodb-buffer-pool-size=512M", "--max-connections=1000",
		"--wsrep-on=ON", "--wsrep-provider=/usr/lib/galera/libgalera_smm.so", "--wsrep-cluster-name=bench",
		"--wsrep-node-name=" + name, "--wsrep-cluster-address=gcomm://127.0.0.1:3501,127.0.0.1:3502,127.0.0.1:3503",
		fmt.Sprintf("--wsrep-node-address=127.0.0.1:%d", base), "--wsrep-provider-options=" + options,
		"--wsrep-sst-method=rsync", fmt.Sprintf("--wsrep-sst-receive-address=127.0.0.1:%d", base+200), "--wsrep-slave-threads=4", "--wsrep-retry-autocommit=8"}
	if isFirst {
		arguments = append(arguments, "--wsrep-new-cluster")
	}
	process, err := launch(filepath.Join(g.folder, name+".log"), nil, "mariadbd", arguments...)
	g.nodes[node] = process
	return err
}

func (g *galera) open(node int, user, database string) (*sql.DB, error) {
	config := mysql.NewConfig()
	config.User, config.Net, config.DBName = user, "unix", database
	config.Addr = filepath.Join(g.folder, fmt.Sprintf("n%d.sock", node))
	if user == "bench" {
		config.Passwd, config.Net, config.Addr = "bench", "tcp", fmt.Sprintf("127.0.0.1:%d", 3401+node)
	}
	config.Timeout, config.ReadTimeout, config.WriteTimeout = patience, patience, patience
	config.Logger = &mysql.NopLogger{}
	connector, err := mysql.NewConnector(config)
	if err != nil {
		return nil, err
	}
	db := sql.OpenDB(connector)
	db.SetMaxOpenConns(1)
	return db, nil
}

func (g *galera) synced(node int) error {
	db, err := g.open(node, "root", "")
	if err != nil {
		return err
	}
	defer db.Close()
	var name, state string
	if err := db.QueryRow("show status like 'wsrep_local_state_comment'").Scan(&name, &state); err != nil {
		return err
	}
	if state != "Synced" {
		return errors.New(state)
	}
	return nil
}

func (g *galera) prepare() error {
	db, err := g.open(0, "root", "")
	if err != nil {
		return err
	}
	defer db.Close()
	for _, statement := range []string{"create database bench",
		"create table bench.items (k varchar(64) primary key, n bigint not null default 0, v mediumtext)",
		"create user bench@'127.0.0.1' identified by 'bench'", "grant all on bench.* to bench@'127.0.0.1'"} {
		if _, err := db.Exec(statement); err != nil {
			return fmt.Errorf("%s: %w", statement, err)
		}
	}
	return nil
}

func (g *galera) describe() string {
	return output("mariadbd", "--version") + "; Galera 26.4, prepared statements over kept TCP connections spread over three nodes, updates that lose against others are tried again; linearizable reads are its causal ones (wsrep_sync_wait=1); innodb_flush_log_at_trx_commit=1, sync_binlog=0 (no binary log), 512 MiB of buffer pool, 4 appliers, wsrep_retry_autocommit=8"
}

func (g *galera) can(kind) bool { return true }

func (g *galera) client(node int) (client, error) {
	db, err := g.open(node, "bench", "bench")
	if err != nil {
		return nil, err
	}
	c := &galeraClient{db: db}
	texts := []string{"insert into items (k, v) values (?, ?)", "update items set v = ?, n = n + 1 where k = ?",
		"update items set v = ?, n = n + 1 where k = ? and n = ?", "select v from items where k = ?", "select n from items where k = ?",
		"select k, v from items where k >= ? order by k limit ?"}
	for i, place := range []**sql.Stmt{&c.insertion, &c.change, &c.changeIf, &c.reading, &c.counting, &c.listing} {
		if *place, err = db.Prepare(texts[i]); err != nil {
			db.Close()
			return nil, err
		}
	}
	return c, nil
}

func (g *galera) kill(node int) error {
	g.nodes[node].end(syscall.SIGKILL, time.Second)
	return nil
}

func (g *galera) restart(node int) error {
	if err := g.launch(node, false); err != nil {
		return err
	}
	return until("Galera is Synced again", time.Minute, func() error { return g.synced(node) })
}

func (g *galera) stop() {
	for _, node := range g.nodes {
		node.end(syscall.SIGKILL, time.Second)
	}
}

type galeraClient struct {
	db                                                      *sql.DB
	insertion, change, changeIf, reading, counting, listing *sql.Stmt
	seen                                                    int64
	isKnown                                                 bool
	// waits: reads of this connection wait for what the cluster has.
	waits bool
	// many inserts as many documents as a batch has.
	many    *sql.Stmt
	manyFor int
}

func (c *galeraClient) insert(key string, value []byte) error {
	_, err := c.insertion.Exec(key, value)
	return err
}

func (c *galeraClient) update(key string, value []byte) error {
	begun := time.Now()
	for {
		_, err := c.change.Exec(value, key)
		// Another node changed it at once: what applications do is to try again.
		if refusal, is := errors.AsType[*mysql.MySQLError](err); !is || refusal.Number != 1213 || time.Since(begun) > patience {
			return err
		}
	}
}

func (c *galeraClient) conditional(key string, value []byte) error {
	if !c.isKnown {
		if err := c.counting.QueryRow(key).Scan(&c.seen); err != nil {
			return err
		}
		c.isKnown = true
	}
	done, err := c.changeIf.Exec(value, key, c.seen)
	var refusal *mysql.MySQLError
	if errors.As(err, &refusal) && refusal.Number == 1213 {
		// Two nodes changed it at once: Galera's conflict.
		c.isKnown = false
		return errConflict
	}
	if err != nil {
		return err
	}
	if rows, err := done.RowsAffected(); err != nil || rows == 1 {
		c.seen++
		return err
	}
	c.isKnown = false
	return errConflict
}

func (c *galeraClient) local(key string) error {
	var text sql.RawBytes
	rows, err := c.reading.Query(key)
	if err != nil {
		return err
	}
	defer rows.Close()
	if !rows.Next() {
		return errors.Join(fmt.Errorf("%s is not there", key), rows.Err())
	}
	return rows.Scan(&text)
}

// latest: the node first applies what the cluster had when it was asked.
func (c *galeraClient) latest(key string) error {
	if !c.waits {
		if _, err := c.db.Exec("set session wsrep_sync_wait = 1"); err != nil {
			return err
		}
		c.waits = true
	}
	return c.local(key)
}

func (c *galeraClient) list(first string, count int) error {
	rows, err := c.listing.Query(first, count)
	if err != nil {
		return err
	}
	defer rows.Close()
	var key, text sql.RawBytes
	for rows.Next() {
		if err := rows.Scan(&key, &text); err != nil {
			return err
		}
	}
	return rows.Err()
}

func (c *galeraClient) bulk(keys []string, value []byte) error {
	arguments := make([]any, 0, 2*len(keys))
	for _, key := range keys {
		arguments = append(arguments, key, value)
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if c.many == nil || c.manyFor != len(keys) {
		text := "insert into items (k, v) values " + strings.TrimSuffix(strings.Repeat("(?,?),", len(keys)), ",")
		many, err := c.db.PrepareContext(ctx, text)
		if err != nil {
			return err
		}
		if c.many != nil {
			c.many.Close()
		}
		c.many, c.manyFor = many, len(keys)
	}
	_, err := c.many.ExecContext(ctx, arguments...)
	return err
}

func (c *galeraClient) close() { c.db.Close() }
