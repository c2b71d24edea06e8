package main

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"
)

// orient is three OrientDB nodes, majority writes, its log as shipped (flushed each second, not at commit: it promises
// less than the others here). All clients use one node, its best set-up: with writers on all nodes it stalls.
type orient struct {
	folder string
	jars   string
	nodes  [3]*process
	mutex  sync.Mutex
	rids   map[string]string
}

const orientVersion = "3.2.27"

const pom = `<project xmlns="http://maven.apache.org/POM/4.0.0"><modelVersion>4.0.0</modelVersion>
<groupId>bench</groupId><artifactId>orientdb</artifactId><version>1</version><dependencies>
<dependency><groupId>com.orientechnologies</groupId><artifactId>orientdb-distributed</artifactId><version>` + orientVersion + `</version></dependency>
<dependency><groupId>com.orientechnologies</groupId><artifactId>orientdb-server</artifactId><version>` + orientVersion + `</version></dependency>
</dependencies></project>
`

// orientJars fetches the jars into the cache, once.
func orientJars() (string, error) {
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", err
	}
	folder := filepath.Join(cache, "coequal-bench", "orientdb-"+orientVersion)
	if found, _ := filepath.Glob(filepath.Join(folder, "orientdb-distributed-*.jar")); len(found) > 0 {
		return folder, nil
	}
	work, err := os.MkdirTemp("", "orientdb-")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(work)
	file := filepath.Join(work, "pom.xml")
	if err := os.WriteFile(file, []byte(pom), 0o644); err != nil {
		return "", err
	}
	text, err := exec.Command("mvn", "-q", "-B", "-f", file, "dependency:copy-dependencies", "-DoutputDirectory="+folder).CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("mvn: %w: %s", err, text)
	}
	return folder, nil
}

func startOrient(folder string) (system, error) {
	jars, err := orientJars()
	if err != nil {
		return nil, err
	}
	o := &orient{folder: folder, jars: jars, rids: map[string]string{}}
	if err := o.begin(); err != nil {
		o.stop()
		return nil, err
	}
	return o, nil
}

func (o *orient) begin() error {
	for node := range 3 {
		if err := o.configure(node); err != nil {
			return err
		}
		if err := o.launch(node); err != nil {
			return err
		}
		if err := until("OrientDB answers", time.Minute, func() error { return o.answers(node) }); err != nil {
			return err
		}
	}
	if err := until("three nodes are a cluster", time.Minute, func() error { return o.logged("now 3 nodes are configured") }); err != nil {
		return err
	}
	if err := o.ask(0, "POST", "/database/bench/plocal", ""); err != nil {
		return err
	}
	if err := o.settle(); err != nil {
		return err
	}
	// It may say that a cluster of the class is not there yet on a node, and has made the class all the same.
	made := func() error { return o.sql(0, "CREATE CLASS items IF NOT EXISTS CLUSTERS 3") }
	if err := until("class items is made", time.Minute, made); err != nil {
		return err
	}
	for _, statement := range []string{"CREATE PROPERTY items.k STRING",
		"CREATE PROPERTY items.v STRING", "CREATE INDEX items.k UNIQUE"} {
		if err := o.sql(0, statement); err != nil {
			return err
		}
	}
	for node := range 3 {
		if err := until("class items is everywhere", time.Minute, func() error { return o.sql(node, "SELECT count(*) FROM items") }); err != nil {
			return err
		}
	}
	return o.settle()
}

// settle waits until all nodes say that all are ONLINE, and have logged the same configuration of the database. Its status
// says ONLINE seconds earlier; writes that come in between make nodes that lack a part, and these let writers wait for ever.
func (o *orient) settle() error {
	for node := range 3 {
		if err := until("bench is ONLINE everywhere", time.Minute, func() error { return o.online(node) }); err != nil {
			return err
		}
	}
	return until("all nodes log one configuration, all ONLINE", time.Minute, o.agreed)
}

var orientConfiguration = regexp.MustCompile(`Setting new distributed configuration for database: bench \(version=(\d+)\)`)

func (o *orient) agreed() error {
	var versions []string
	for node := range 3 {
		text, err := os.ReadFile(filepath.Join(o.folder, fmt.Sprintf("n%d.log", node)))
		if err != nil {
			return err
		}
		all := orientConfiguration.FindAllSubmatch(text, -1)
		table := text[max(0, bytes.LastIndex(text, []byte("Distributed servers status"))):]
		if online := bytes.Count(table, []byte("bench=ONLINE")); len(all) == 0 || online != 3 {
			return fmt.Errorf("n%d has logged %d configurations and shows %d nodes ONLINE", node, len(all), online)
		}
		versions = append(versions, string(all[len(all)-1][1]))
	}
	if slices.ContainsFunc(versions, func(version string) bool { return version != versions[0] }) {
		return fmt.Errorf("configurations %v", versions)
	}
	return nil
}

func (o *orient) configure(node int) error {
	home := o.home(node)
	for _, part := range []string{"config", "databases", "tmp"} {
		if err := os.MkdirAll(filepath.Join(home, part), 0o755); err != nil {
			return err
		}
	}
	files := map[string]string{
		"default-distributed-db-config.json": `{"autoDeploy": true, "readQuorum": 1, "writeQuorum": "majority", "readYourWrites": true,
 "newNodeStrategy": "static", "servers": {"*": "master"}, "clusters": {"internal": {}, "*": {"servers": ["<NEW_NODE>"]}}}`,
		"hazelcast.xml": fmt.Sprintf(`<hazelcast xmlns="http://www.hazelcast.com/schema/config"><group><name>bench</name><password>bench</password></group>
<properties><property name="hazelcast.phone.home.enabled">false</property><property name="hazelcast.wait.seconds.before.join">1</property></properties>
<network><port auto-increment="false">%d</port><join><multicast enabled="false"/><tcp-ip enabled="true">
<member>127.0.0.1:2434</member><member>127.0.0.1:2435</member><member>127.0.0.1:2436</member></tcp-ip></join>
<interfaces enabled="true"><interface>127.0.0.1</interface></interfaces></network></hazelcast>`, 2434+node),
		"orientdb-server-config.xml": fmt.Sprintf(`<?xml version="1.0" encoding="UTF-8"?><orient-server><handlers>
<handler class="com.orientechnologies.orient.server.hazelcast.OHazelcastPlugin"><parameters>
<parameter name="enabled" value="true"/><parameter name="nodeName" value="n%d"/>
<parameter name="configuration.db.default" value="%s/config/default-distributed-db-config.json"/>
<parameter name="configuration.hazelcast" value="%s/config/hazelcast.xml"/></parameters></handler></handlers>
<network><protocols><protocol name="binary" implementation="com.orientechnologies.orient.server.network.protocol.binary.ONetworkProtocolBinary"/>
<protocol name="http" implementation="com.orientechnologies.orient.server.network.protocol.http.ONetworkProtocolHttpDb"/></protocols>
<listeners><listener ip-address="127.0.0.1" port-range="%d" protocol="binary"/><listener ip-address="127.0.0.1" port-range="%d" protocol="http"/></listeners></network>
<users><user name="root" password="root" resources="*"/></users><properties/></orient-server>`, node, home, home, 2424+node, 2480+node),
	}
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(home, "config", name), []byte(text), 0o644); err != nil {
			return err
		}
	}
	return nil
}

func (o *orient) home(node int) string { return filepath.Join(o.folder, fmt.Sprintf("n%d", node)) }

func (o *orient) launch(node int) error {
	home := o.home(node)
	open := []string{"java.base/java.lang", "java.base/java.util", "java.base/java.nio", "java.base/sun.nio.ch",
		"java.management/sun.management", "jdk.management/com.sun.management.internal"}
	arguments := []string{"-Xms256m", "-Xmx768m", "-XX:MaxDirectMemorySize=2g", "-Djava.awt.headless=true",
		"-Djava.io.tmpdir=" + home + "/tmp", "-Dstorage.diskCache.bufferSize=256", "--add-modules", "java.se",
		"--add-exports", "java.base/jdk.internal.ref=ALL-UNNAMED"}
	for _, part := range open {
		arguments = append(arguments, "--add-opens", part+"=ALL-UNNAMED")
	}
	arguments = append(arguments, "-DORIENTDB_HOME="+home, "-Dorientdb.config.file="+home+"/config/orientdb-server-config.xml",
		"-Ddistributed=true", "-cp", o.jars+"/*", "com.orientechnologies.orient.server.OServerMain")
	process, err := launch(filepath.Join(o.folder, fmt.Sprintf("n%d.log", node)),
		[]string{"ORIENTDB_HOME=" + home, "ORIENTDB_ROOT_PASSWORD=root"}, "java", arguments...)
	o.nodes[node] = process
	return err
}

func (o *orient) address(node int) string { return fmt.Sprintf("127.0.0.1:%d", 2480+node) }

func basic() string {
	return "Authorization: Basic " + base64.StdEncoding.EncodeToString([]byte("root:root")) + "\r\nContent-Type: application/json\r\n"
}

func (o *orient) ask(node int, method, path, body string) error {
	http := newHTTP(o.address(node), basic())
	defer http.close()
	status, err := http.send(method, path, "", []byte(body))
	if err == nil && status >= 300 {
		err = http.wrong(path, status)
	}
	return err
}

func (o *orient) answers(node int) error { return o.ask(node, "GET", "/listDatabases", "") }

func (o *orient) sql(node int, statement string) error {
	return o.ask(node, "POST", "/command/bench/sql", `{"command":"`+statement+`"}`)
}

func (o *orient) logged(words string) error {
	text, err := os.ReadFile(filepath.Join(o.folder, "n0.log"))
	if err == nil && !strings.Contains(string(text), words) {
		err = errors.New("not in the log yet")
	}
	return err
}

func (o *orient) online(node int) error {
	http := newHTTP(o.address(node), basic())
	defer http.close()
	status, err := http.send("POST", "/command/bench/sql", "", []byte(`{"command":"HA STATUS -servers"}`))
	if err != nil {
		return err
	}
	if strings.Count(strings.ReplaceAll(string(http.body), " ", ""), `"databasesStatus":{"bench":"ONLINE"`) != 3 {
		return http.wrong("HA STATUS", status)
	}
	return nil
}

func (o *orient) describe() string {
	return "OrientDB " + orientVersion + " on " + output("java", "-version") +
		"; HTTP with kept connections and session cookies (its binary protocol has no client here), all clients on one node, by record id; writeQuorum majority, its log is flushed each second and not at commit"
}

func (o *orient) can(k kind) bool { return k != latest && k != list && k != bulk }

func (o *orient) client(int) (client, error) {
	http := newHTTP(o.address(0), basic())
	status, err := http.send("GET", "/connect/bench", "", nil)
	switch {
	case err != nil:
	case status >= 300:
		err = http.wrong("connect", status)
	case http.cookie == "":
		err = errors.New("connect: no cookie of a session")
	default:
		// From here on the session says who it is.
		http.head = "Host: " + http.address + "\r\nContent-Type: application/json\r\n"
	}
	return &orientClient{o: o, http: http}, err
}

func (o *orient) kill(node int) error {
	o.nodes[node].end(syscall.SIGKILL, time.Second)
	return nil
}

func (o *orient) restart(node int) error {
	if err := o.launch(node); err != nil {
		return err
	}
	return until("bench is ONLINE again", 2*time.Minute, func() error { return o.online(0) })
}

func (o *orient) stop() {
	for _, node := range o.nodes {
		node.end(syscall.SIGKILL, time.Second)
	}
}

func (o *orient) rid(key string) string {
	o.mutex.Lock()
	defer o.mutex.Unlock()
	return o.rids[key]
}

type orientClient struct {
	o    *orient
	http *httpClient
	seen int64
}

type orientRecord struct {
	Rid     string `json:"@rid"`
	Version int64  `json:"@version"`
}

func (c *orientClient) insert(key string, value []byte) error {
	status, err := c.http.send("POST", "/document/bench", "", fmt.Appendf(nil, `{"@class":"items","k":"%s","v":"%s"}`, key, value))
	if err != nil {
		return err
	}
	var made orientRecord
	if json.Unmarshal(c.http.body, &made) != nil || made.Rid == "" || status >= 300 {
		return c.http.wrong("insert", status)
	}
	if strings.HasPrefix(key, "k") {
		c.o.mutex.Lock()
		c.o.rids[key] = strings.TrimPrefix(made.Rid, "#")
		c.o.mutex.Unlock()
	}
	return nil
}

func (c *orientClient) update(key string, value []byte) error {
	return c.put(key, value, -1)
}

func (c *orientClient) put(key string, value []byte, version int64) error {
	text := fmt.Appendf(nil, `{"@class":"items","@version":%d,"k":"%s","v":"%s"}`, version, key, value)
	status, err := c.http.send("PUT", "/document/bench/"+c.o.rid(key), "", text)
	switch {
	case err != nil:
		return err
	case status == 409 || status >= 300 && strings.Contains(string(c.http.body), "ConcurrentModification"):
		return errConflict
	case status >= 300:
		return c.http.wrong("update", status)
	}
	var now orientRecord
	if json.Unmarshal(c.http.body, &now) == nil {
		c.seen = now.Version
	}
	return nil
}

func (c *orientClient) conditional(key string, value []byte) error {
	if c.seen == 0 {
		if err := c.local(key); err != nil {
			return err
		}
		var now orientRecord
		if err := json.Unmarshal(c.http.body, &now); err != nil {
			return err
		}
		c.seen = now.Version
	}
	err := c.put(key, value, c.seen)
	if err != nil {
		c.seen = 0
	}
	return err
}

func (c *orientClient) local(key string) error {
	status, err := c.http.send("GET", "/document/bench/"+c.o.rid(key), "", nil)
	if err == nil && status != 200 {
		err = c.http.wrong("read", status)
	}
	return err
}

func (c *orientClient) latest(string) error         { return errors.ErrUnsupported }
func (c *orientClient) list(string, int) error      { return errors.ErrUnsupported }
func (c *orientClient) bulk([]string, []byte) error { return errors.ErrUnsupported }
func (c *orientClient) close()                      { c.http.close() }
