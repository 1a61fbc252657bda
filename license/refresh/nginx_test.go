//go:build unix

package refresh_test

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"crypto/tls"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fairlead-dev/fairlead/license"
	"github.com/fairlead-dev/fairlead/license/refresh"
)

// needVariable, when set, makes a test fail for want of a server instead of skipping it.
const needVariable = "FAIRLEAD_NEED_SERVERS"

func tool(t *testing.T, name string) string {
	t.Helper()
	for _, path := range []string{name, "/usr/sbin/" + name} {
		if found, err := exec.LookPath(path); err == nil {
			return found
		}
	}
	if os.Getenv(needVariable) != "" {
		t.Fatalf("%s is not installed", name)
	}
	t.Skipf("%s is not installed", name)
	return ""
}

// nginx serves a folder over TLS, with a certificate that openssl has made.
type nginx struct {
	t        *testing.T
	own      string
	port     string
	name     string // in the certificate
	ca       []byte
	stop     func()
	location string // what stands in its configuration besides
}

func newNginx(t *testing.T, folder, name, location string) *nginx {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	n := &nginx{t: t, own: t.TempDir(), name: name, location: location, port: strconv.Itoa(l.Addr().(*net.TCPAddr).Port)}
	require.NoError(t, l.Close())
	n.certify()
	n.run(folder)
	return n
}

func (n *nginx) certify() {
	n.t.Helper()
	openssl := func(args ...string) {
		cmd := exec.Command(tool(n.t, "openssl"), args...)
		cmd.Dir = n.own
		out, err := cmd.CombinedOutput()
		require.NoError(n.t, err, "%s", out)
	}
	key := []string{"-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"}
	openssl(append([]string{"req", "-x509", "-keyout", "ca.key", "-out", "ca.pem", "-subj", "/CN=test authority", "-days", "1"}, key...)...)
	openssl(append([]string{"req", "-new", "-keyout", "server.key", "-out", "server.csr", "-subj", "/CN=licences"}, key...)...)
	require.NoError(n.t, os.WriteFile(filepath.Join(n.own, "ext"), []byte("subjectAltName="+n.name), 0o600))
	openssl("x509", "-req", "-in", "server.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days", "1", "-extfile", "ext", "-out", "server.pem")
	var err error
	n.ca, err = os.ReadFile(filepath.Join(n.own, "ca.pem"))
	require.NoError(n.t, err)
}

func (n *nginx) run(folder string) {
	n.t.Helper()
	user := ""
	if os.Geteuid() == 0 {
		user = "user root;" // the folders of tests are private
	}
	conf := fmt.Sprintf(`daemon off; master_process off; worker_processes 1; pid %[1]s/pid; error_log %[1]s/error.log; %[2]s
events { }
http {
  types { application/jwt license; } default_type application/octet-stream;
  log_format lines '$request_method $request_uri $status';
  access_log %[1]s/access.log lines;
  client_body_temp_path %[1]s/tmp1; proxy_temp_path %[1]s/tmp2; fastcgi_temp_path %[1]s/tmp3; uwsgi_temp_path %[1]s/tmp4; scgi_temp_path %[1]s/tmp5;
  server { listen 127.0.0.1:%[3]s ssl; ssl_certificate %[1]s/server.pem; ssl_certificate_key %[1]s/server.key; root %[4]s; %[5]s }
}
`, n.own, user, n.port, folder, n.location)
	path := filepath.Join(n.own, "nginx.conf")
	require.NoError(n.t, os.WriteFile(path, []byte(conf), 0o600))
	cmd := exec.Command(tool(n.t, "nginx"), "-p", n.own, "-c", path, "-e", filepath.Join(n.own, "error.log"))
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	require.NoError(n.t, cmd.Start())
	ended := make(chan struct{})
	go func() {
		_ = cmd.Wait()
		close(ended)
	}()
	n.stop = func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		select {
		case <-ended:
		case <-time.After(10 * time.Second):
			_ = cmd.Process.Kill()
			<-ended
		}
	}
	n.t.Cleanup(n.stop)
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		c, err := net.Dial("tcp", "127.0.0.1:"+n.port)
		if err == nil {
			_ = c.Close()
			return
		}
		select {
		case <-ended:
			n.t.Fatalf("nginx: %s", &out)
		default:
			require.True(n.t, time.Now().Before(deadline), "nginx does not listen: %v", err)
		}
	}
}

func (n *nginx) host() string { return "127.0.0.1:" + n.port }

// log is what nginx was asked. It writes a line when an answer has ended.
func (n *nginx) log() string {
	n.t.Helper()
	time.Sleep(100 * time.Millisecond)
	data, err := os.ReadFile(filepath.Join(n.own, "access.log"))
	require.NoError(n.t, err)
	return string(data)
}

const issuerName = "https://licenses.acme.example"

func day(s string) time.Time {
	t, err := time.Parse(time.DateOnly, s)
	if err != nil {
		panic(err)
	}
	return t
}

// The story of a vendor with nothing but a web server for files, and of a customer whose token runs out every quarter.
func TestRenewalFromNginx(t *testing.T) {
	seed := sha256.Sum256([]byte("refresh"))
	key := ed25519.NewKeyFromSeed(seed[:])
	issuer, err := license.NewIssuer(key, "acme-2026", issuerName)
	require.NoError(t, err)
	folder := t.TempDir()
	n := newNginx(t, folder, "IP:127.0.0.1", "location /moved { return 302 /renewals/x7Kd2v.license; } location /busy { return 503; }")
	terms := license.License{Subject: "cus_7Q2", LicenseID: "lic_42", Seq: 1, Audience: []string{"acme-db"}, IssuedAt: day("2026-01-01"),
		Expires: day("2026-04-01"), Grace: 14 * 24 * time.Hour, Entitlements: map[string]any{"sso": true},
		Refresh: &license.Refresh{URL: "https://" + n.host() + "/renewals/x7Kd2v.license", After: day("2026-03-01")}}
	first, err := issuer.Issue(terms)
	require.NoError(t, err)
	terms.Seq, terms.IssuedAt, terms.NotBefore, terms.Expires = 2, day("2026-03-01"), day("2026-03-01"), day("2026-07-01")
	second, err := issuer.Issue(terms)
	require.NoError(t, err)

	ring, err := license.NewKeyring(license.Key{ID: "acme-2026", Public: key.Public()})
	require.NoError(t, err)
	v, err := license.NewVerifier(license.Config{Issuer: issuerName, Product: "acme-db", Keys: ring})
	require.NoError(t, err)
	overdue := day("2026-04-02")
	s, err := license.OpenStore(license.StoreConfig{Verifier: v, Dir: filepath.Join(t.TempDir(), "store"), Now: func() time.Time { return overdue }})
	require.NoError(t, err)
	status, err := s.Install(t.Context(), first)
	require.NoError(t, err)
	require.Contains(t, strings.Join(status.Warnings, " "), "refresh overdue")
	h := &refresh.HTTP{Hosts: []string{n.host()}, RootCAs: n.ca, Tries: 2, Timeout: 5 * time.Second}

	status, err = s.Refresh(t.Context(), h)
	require.NoError(t, err)
	require.Equal(t, int64(1), status.License.Seq, "the vendor has not renewed it yet: 404")
	require.NoError(t, os.MkdirAll(filepath.Join(folder, "renewals"), 0o755))
	file := filepath.Join(folder, "renewals", "x7Kd2v.license")
	require.NoError(t, os.WriteFile(file, license.Armor(second), 0o644))
	status, err = s.Refresh(t.Context(), h)
	require.NoError(t, err)
	require.Equal(t, license.Valid, status.State)
	require.Equal(t, int64(2), status.License.Seq)
	require.Empty(t, status.Warnings)
	require.True(t, s.Has("sso"))

	// The next one is not there yet, then it is one that somebody else has made, then the server is down.
	for range 2 {
		status, err = s.Refresh(t.Context(), h)
		require.NoError(t, err)
		require.Equal(t, int64(2), status.License.Seq)
	}
	require.NoError(t, os.WriteFile(file, append([]byte("x"), second...), 0o644))
	_, err = s.Refresh(t.Context(), h)
	require.ErrorIs(t, err, license.ErrMalformed)

	_, err = h.Refresh(t.Context(), "https://"+n.host()+"/moved", first)
	var redirect *refresh.RedirectError
	require.ErrorAs(t, err, &redirect)
	_, err = h.Refresh(t.Context(), "https://"+n.host()+"/busy", first)
	var busy *refresh.StatusError
	require.ErrorAs(t, err, &busy)
	require.Equal(t, 503, busy.Status)
	_, err = h.Refresh(t.Context(), "https://"+n.host()+"/renewals/", first)
	require.ErrorIs(t, err, refresh.ErrRefused, "folders are not listed: 403")

	const path = "/renewals/x7Kd2v.license"
	require.Equal(t, "GET "+path+" 404\n"+strings.Repeat("GET "+path+" 200\n", 4)+"GET /moved 302\nGET /busy 503\nGET /busy 503\nGET /renewals/ 403\n", n.log())
	n.stop()
	status, err = s.Refresh(t.Context(), h)
	require.ErrorIs(t, err, syscall.ECONNREFUSED)
	require.Equal(t, license.Valid, status.State, "the old one holds")
	require.True(t, s.Has("sso"))
	overdue = day("2026-07-15")
	require.False(t, s.Current().Has("sso"), "to its own end, and the grace after it")
}

func TestNginxOfSomebodyElse(t *testing.T) {
	n := newNginx(t, t.TempDir(), "DNS:licenses.evil.example", "")
	h := &refresh.HTTP{Hosts: []string{n.host()}, RootCAs: n.ca}
	err := refused(t, h, "https://"+n.host()+"/x", "doesn't contain any IP SANs")
	var cert *tls.CertificateVerificationError
	require.ErrorAs(t, err, &cert)
	require.Empty(t, n.log(), "it saw no request")
}
