package main

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"time"
)

// patience is the longest wait for one answer of any system.
const patience = 20 * time.Second

// httpClient is HTTP/1.1 over one kept connection with as little work for a request as will do: the generator shares
// the processor with what it measures.
type httpClient struct {
	address string
	head    string // lines that every request has
	stream  net.Conn
	reader  *bufio.Reader
	out     bytes.Buffer
	etag    string
	cookie  string // the last one that was set, as a header's line
	body    []byte
}

func newHTTP(address, head string) *httpClient {
	return &httpClient{address: address, head: "Host: " + address + "\r\n" + head}
}

// send gives the status of the answer; its body and entity tag stay in the client until the next request.
func (c *httpClient) send(method, path, more string, body []byte) (int, error) {
	status, err := c.exchange(method, path, more, body)
	if err != nil {
		c.close()
	}
	return status, err
}

func (c *httpClient) exchange(method, path, more string, body []byte) (int, error) {
	if c.stream == nil {
		stream, err := net.DialTimeout("tcp", c.address, patience)
		if err != nil {
			return 0, err
		}
		c.stream, c.reader = stream, bufio.NewReaderSize(stream, 32<<10)
	}
	c.out.Reset()
	for _, text := range []string{method, " ", path, " HTTP/1.1\r\n", c.head, c.cookie, more, "Content-Length: ", strconv.Itoa(len(body)), "\r\n\r\n"} {
		c.out.WriteString(text)
	}
	c.out.Write(body)
	if err := c.stream.SetDeadline(time.Now().Add(patience)); err != nil {
		return 0, err
	}
	if _, err := c.stream.Write(c.out.Bytes()); err != nil {
		return 0, err
	}
	return c.answer()
}

func (c *httpClient) answer() (int, error) {
	line, err := c.line()
	if err != nil {
		return 0, err
	}
	parts := strings.SplitN(line, " ", 3)
	if len(parts) < 2 {
		return 0, fmt.Errorf("%s answers with %q", c.address, line)
	}
	status, err := strconv.Atoi(parts[1])
	if err != nil {
		return 0, fmt.Errorf("%s answers with %q", c.address, line)
	}
	length, chunked, closes := 0, false, false
	c.etag = ""
	for {
		line, err := c.line()
		if err != nil {
			return 0, err
		}
		if line == "" {
			break
		}
		name, text, _ := strings.Cut(line, ":")
		text = strings.TrimSpace(text)
		switch strings.ToLower(name) {
		case "content-length":
			if length, err = strconv.Atoi(text); err != nil {
				return 0, err
			}
		case "transfer-encoding":
			chunked = strings.EqualFold(text, "chunked")
		case "connection":
			closes = strings.EqualFold(text, "close")
		case "etag":
			c.etag = text
		case "set-cookie":
			pair, _, _ := strings.Cut(text, ";")
			c.cookie = "Cookie: " + pair + "\r\n"
		}
	}
	c.body = c.body[:0]
	if chunked {
		err = c.chunks()
	} else if status != 204 && status != 304 {
		err = c.take(length)
	}
	if err == nil && closes {
		c.close()
	}
	return status, err
}

func (c *httpClient) line() (string, error) {
	line, err := c.reader.ReadString('\n')
	return strings.TrimRight(line, "\r\n"), err
}

func (c *httpClient) take(count int) error {
	before := len(c.body)
	c.body = append(c.body, make([]byte, count)...)
	_, err := io.ReadFull(c.reader, c.body[before:])
	return err
}

func (c *httpClient) chunks() error {
	for {
		line, err := c.line()
		if err != nil {
			return err
		}
		count, err := strconv.ParseInt(strings.SplitN(line, ";", 2)[0], 16, 32)
		if err != nil {
			return err
		}
		if err := c.take(int(count)); err != nil {
			return err
		}
		if _, err := c.line(); err != nil || count == 0 {
			return err
		}
	}
}

func (c *httpClient) close() {
	if c.stream != nil {
		c.stream.Close()
		c.stream = nil
	}
}

// wrong is the error for an answer that was not hoped for.
func (c *httpClient) wrong(what string, status int) error {
	text := string(c.body)
	if len(text) > 300 {
		text = text[:300]
	}
	return fmt.Errorf("%s: %d %s", what, status, text)
}
