//go:build unix

package update_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// The real servers that downloads are tried with, each on a free port of 127.0.0.1, and ended by its process id.

// needVariable, when set, makes a test fail for want of a server instead of skipping it.
const needVariable = "FAIRLEAD_NEED_SERVERS"

// tool returns the path of a program, or skips the test.
func tool(t testing.TB, name, pkg string) string {
	t.Helper()
	for _, path := range []string{name, "/usr/sbin/" + name, "/usr/local/sbin/" + name} {
		if found, err := exec.LookPath(path); err == nil {
			return found
		}
	}
	lacking(t, fmt.Sprintf("%s is not installed: apt-get install %s", name, pkg))
	return ""
}

func lacking(t testing.TB, why string) {
	t.Helper()
	if os.Getenv(needVariable) != "" {
		t.Fatal(why)
	}
	t.Skip(why)
}

// freePort returns a port of 127.0.0.1 that nobody listens on now.
func freePort(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer func() { _ = l.Close() }()
	return strconv.Itoa(l.Addr().(*net.TCPAddr).Port)
}

// runServer runs a program until the test ends, and waits until it listens. Its output is told when it fails.
func runServer(t testing.TB, port string, command ...string) {
	t.Helper()
	cmd := exec.Command(command[0], command[1:]...)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	require.NoError(t, cmd.Start())
	ended := make(chan struct{})
	go func() {
		_ = cmd.Wait()
		close(ended)
	}()
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		select {
		case <-ended:
		case <-time.After(10 * time.Second):
			_ = cmd.Process.Kill()
			<-ended
		}
	})
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		c, err := net.Dial("tcp", "127.0.0.1:"+port)
		if err == nil {
			_ = c.Close()
			return
		}
		select {
		case <-ended:
			t.Fatalf("%s: %s", command[0], &out)
		default:
			require.True(t, time.Now().Before(deadline), "%s does not listen: %v", command[0], err)
		}
	}
}

// nginx serves a folder.
type nginx struct {
	t    testing.TB
	port string
	log  string
	url  string
}

// served is one line of nginx's log.
type served struct {
	At      float64 `json:"at,string"`
	URI     string  `json:"uri"`
	Status  int     `json:"status,string"`
	Sent    int64   `json:"sent,string"`
	Range   string  `json:"range"`
	IfRange string  `json:"if_range"`
	Auth    string  `json:"auth"`
}

// newNginx runs nginx over dir. server is what else stands in its server block, and {dir} in it is a folder of its own.
func newNginx(t testing.TB, dir, server string) *nginx {
	t.Helper()
	program := tool(t, "nginx", "nginx-light")
	own := t.TempDir()
	n := &nginx{t: t, port: freePort(t), log: filepath.Join(own, "access.log")}
	scheme, user, ssl := "http", "", ""
	if strings.Contains(server, "ssl_certificate ") {
		scheme, ssl = "https", " ssl"
	}
	if os.Geteuid() == 0 {
		user = "user root;" // the folders of tests are private
	}
	n.url = scheme + "://127.0.0.1:" + n.port
	conf := fmt.Sprintf(`daemon off; master_process off; worker_processes 1; pid %[1]s/pid; error_log %[1]s/error.log; %[2]s
events { }
http {
  types { application/json json; text/html html; } default_type application/octet-stream;
  log_format lines escape=json '{"at":"$msec","uri":"$uri","status":"$status","sent":"$body_bytes_sent","range":"$http_range","if_range":"$http_if_range","auth":"$http_authorization"}';
  access_log %[3]s lines; sendfile on; tcp_nopush on;
  client_body_temp_path %[1]s/tmp1; proxy_temp_path %[1]s/tmp2; fastcgi_temp_path %[1]s/tmp3; uwsgi_temp_path %[1]s/tmp4; scgi_temp_path %[1]s/tmp5;
  server { listen 127.0.0.1:%[4]s%[5]s; root %[6]s; %[7]s }
}
`, own, user, n.log, n.port, ssl, dir, strings.ReplaceAll(server, "{dir}", own))
	path := filepath.Join(own, "nginx.conf")
	require.NoError(t, os.WriteFile(path, []byte(conf), 0o600))
	runServer(t, n.port, program, "-p", own, "-c", path, "-e", filepath.Join(own, "error.log"))
	return n
}

// all is the whole log. nginx writes a line when an answer has ended.
func (n *nginx) all() (list []served) {
	n.t.Helper()
	time.Sleep(100 * time.Millisecond)
	data, err := os.ReadFile(n.log)
	require.NoError(n.t, err)
	for line := range strings.Lines(string(data)) {
		var s served
		require.NoError(n.t, json.Unmarshal([]byte(line), &s), line)
		list = append(list, s)
	}
	return list
}

// served is the log but for the requests of metadata.
func (n *nginx) served() []served {
	n.t.Helper()
	return slices.DeleteFunc(n.all(), func(s served) bool {
		return strings.HasPrefix(s.URI, "/metadata/") || strings.HasPrefix(s.URI, "/targets/")
	})
}

// sent is how many bytes of artifacts have been sent.
func (n *nginx) sent() (bytes int64) {
	for _, s := range n.served() {
		bytes += s.Sent
	}
	return bytes
}

func (n *nginx) statuses() (list []int) {
	for _, s := range n.served() {
		list = append(list, s.Status)
	}
	return list
}

// toxiproxy stands between a client and a server, and disturbs what they say.
type toxiproxy struct {
	t   testing.TB
	api string
}

func newToxiproxy(t testing.TB) *toxiproxy {
	t.Helper()
	path := filepath.Join(t.TempDir(), "toxiproxy")
	build := exec.Command("go", "build", "-o", path, "github.com/Shopify/toxiproxy/v2/cmd/server")
	build.Dir = filepath.Join("testdata", "toxiproxy")
	if out, err := build.CombinedOutput(); err != nil {
		lacking(t, fmt.Sprintf("toxiproxy cannot be built: %v: %s", err, out))
	}
	port := freePort(t)
	runServer(t, port, path, "-host", "127.0.0.1", "-port", port)
	return &toxiproxy{t: t, api: "http://127.0.0.1:" + port}
}

func (p *toxiproxy) call(method, path string, body any) {
	p.t.Helper()
	data, err := json.Marshal(body)
	require.NoError(p.t, err)
	req, err := http.NewRequest(method, p.api+path, bytes.NewReader(data))
	require.NoError(p.t, err)
	resp, err := http.DefaultClient.Do(req)
	require.NoError(p.t, err)
	defer func() { _ = resp.Body.Close() }()
	answer, err := io.ReadAll(resp.Body)
	require.NoError(p.t, err)
	require.Less(p.t, resp.StatusCode, 300, "%s %s: %s", method, path, answer)
}

// between makes a proxy to a server of 127.0.0.1 and returns its base URL.
func (p *toxiproxy) between(name, port string) string {
	p.t.Helper()
	own := freePort(p.t)
	p.call(http.MethodPost, "/proxies", map[string]any{"name": name, "listen": "127.0.0.1:" + own, "upstream": "127.0.0.1:" + port, "enabled": true})
	return "http://127.0.0.1:" + own
}

// toxic disturbs what the server sends.
func (p *toxiproxy) toxic(proxy, kind string, attributes map[string]any) {
	p.t.Helper()
	p.call(http.MethodPost, "/proxies/"+proxy+"/toxics", map[string]any{"name": kind, "type": kind, "stream": "downstream", "attributes": attributes})
}

func (p *toxiproxy) remove(proxy, kind string) {
	p.t.Helper()
	p.call(http.MethodDelete, "/proxies/"+proxy+"/toxics/"+kind, nil)
}

// disable refuses connections from now on, and cuts those that are.
func (p *toxiproxy) disable(proxy string) {
	p.t.Helper()
	p.call(http.MethodPost, "/proxies/"+proxy, map[string]any{"enabled": false})
}

// tinyproxy is an HTTP proxy that wants a password.
type tinyproxy struct {
	t    testing.TB
	port string
	log  string
}

func newTinyproxy(t testing.TB) *tinyproxy {
	t.Helper()
	program := tool(t, "tinyproxy", "tinyproxy")
	own := t.TempDir()
	p := &tinyproxy{t: t, port: freePort(t), log: filepath.Join(own, "log")}
	conf := filepath.Join(own, "tinyproxy.conf")
	require.NoError(t, os.WriteFile(conf, []byte("Port "+p.port+"\nListen 127.0.0.1\nTimeout 600\nAllow 127.0.0.1\nBasicAuth anna s3cret\nLogFile \""+p.log+"\"\nLogLevel Info\nMaxClients 20\n"), 0o600))
	runServer(t, p.port, program, "-d", "-c", conf)
	return p
}

// url is the proxy's, with or without the credentials.
func (p *tinyproxy) url(userinfo string) string { return "http://" + userinfo + "127.0.0.1:" + p.port }

// connects counts the tunnels that were asked for.
func (p *tinyproxy) connects() int {
	p.t.Helper()
	data, err := os.ReadFile(p.log)
	require.NoError(p.t, err)
	return strings.Count(string(data), "CONNECT ")
}

// An authority issues certificates.
type authority struct {
	t    testing.TB
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	pem  []byte
	next int64
}

func newAuthority(t testing.TB) *authority {
	t.Helper()
	a := &authority{t: t, next: 2}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test authority"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	require.NoError(t, err)
	a.key = key
	a.cert, err = x509.ParseCertificate(der)
	require.NoError(t, err)
	a.pem = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	return a
}

// issue returns a certificate for servers of these names, and for clients, as PEM with its key, and ready for use.
func (a *authority) issue(names ...string) (cert, key []byte, pair tls.Certificate) {
	a.t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(a.t, err)
	a.next++
	template := &x509.Certificate{
		SerialNumber: big.NewInt(a.next), Subject: pkix.Name{CommonName: names[0]}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		DNSNames: names, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, private.Public(), a.key)
	require.NoError(a.t, err)
	keyDER, err := x509.MarshalECPrivateKey(private)
	require.NoError(a.t, err)
	cert = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	key = pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: keyDER})
	pair, err = tls.X509KeyPair(cert, key)
	require.NoError(a.t, err)
	return cert, key, pair
}

// tlsServer is what makes nginx speak TLS with a certificate of the authority. with is said besides.
func (a *authority) tlsServer(with string, names ...string) string {
	a.t.Helper()
	dir := a.t.TempDir()
	cert, key, _ := a.issue(names...)
	for name, data := range map[string][]byte{"cert": cert, "key": key, "ca": a.pem} {
		require.NoError(a.t, os.WriteFile(filepath.Join(dir, name), data, 0o600))
	}
	return fmt.Sprintf("ssl_certificate %[1]s/cert; ssl_certificate_key %[1]s/key; %[2]s", dir, strings.ReplaceAll(with, "{ca}", dir+"/ca"))
}
