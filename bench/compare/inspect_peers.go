package main

import (
	"fmt"
	"net"
	"path/filepath"
	"time"
)

func foldersIn(folder string) []string {
	var folders []string
	for node := range 3 {
		folders = append(folders, filepath.Join(folder, fmt.Sprintf("n%d", node)))
	}
	return folders
}

// greetsWithin bounds one attempt to hear a server's greeting: one that does not accept yet may never answer a connection
// that waits.
const greetsWithin = 50 * time.Millisecond

// reads says whether a node answers a local read of a document that is there. Its port is tried first: the clients of
// the systems wait longer and longer between two attempts of their own.
func reads(system system, node int, address string, greets bool) error {
	stream, err := net.DialTimeout("tcp", address, patience)
	if err != nil {
		return err
	}
	defer stream.Close()
	if greets {
		if err := stream.SetReadDeadline(time.Now().Add(greetsWithin)); err != nil {
			return err
		}
		if _, err := stream.Read(make([]byte, 1)); err != nil {
			return err
		}
	}
	return readFrom(system, node)
}

func (e *etcd) pid(node int) (int, error) { return e.members[node].command.Process.Pid, nil }
func (e *etcd) folders() []string         { return foldersIn(e.folder) }
func (e *etcd) revive(node int) error     { return e.launch(node, "existing") }
func (e *etcd) ready() error              { return e.healthy() }

func (e *etcd) answers(node int) error {
	return reads(e, node, fmt.Sprintf("127.0.0.1:2%d79", node+1), false)
}

func (g *galera) pid(node int) (int, error) { return g.nodes[node].command.Process.Pid, nil }
func (g *galera) folders() []string         { return foldersIn(g.folder) }
func (g *galera) revive(node int) error     { return g.launch(node, false) }

func (g *galera) answers(node int) error {
	return reads(g, node, fmt.Sprintf("127.0.0.1:%d", 3401+node), true)
}

func (g *galera) ready() error {
	for node := range 3 {
		if err := g.synced(node); err != nil {
			return err
		}
	}
	return nil
}
