//go:build !nos3

package s3store

import (
	"cmp"
	"context"
	"errors"
	"net"
	"net/http"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/smithy-go/middleware"
	smithyhttp "github.com/aws/smithy-go/transport/http"
)

// tuning is what tests set; the zero value is what everybody else gets.
type tuning struct {
	stall    time.Duration // a connection without a byte in either direction is dead after this; 0: a minute
	pause    time.Duration // at most, between attempts; 0: 10 s
	perPart  int           // bytes; 0: partSize
	attempts int           // of a request; 0: 5
	inOne    int64         // bytes; 0: blobInOne
}

func (t tuning) part() int { return cmp.Or(t.perPart, partSize) }

func newClient(ctx context.Context, at Location, t tuning) (*s3.Client, error) {
	var options []func(*config.LoadOptions) error
	if at.Region != "" {
		options = append(options, config.WithRegion(at.Region))
	}
	cfg, err := config.LoadDefaultConfig(ctx, options...)
	if err != nil {
		return nil, &AddressError{"the AWS configuration cannot be read: " + err.Error(), "correct the AWS_… variables, or ~/.aws/config"}
	}
	if cfg.Region == "" {
		if at.Endpoint == "" {
			return nil, &AddressError{"it names no region", "add ?region=eu-central-1 to --repo, or set AWS_REGION"}
		}
		cfg.Region = "us-east-1" // what servers other than Amazon's expect of whoever does not know
	}
	return s3.NewFromConfig(cfg, func(o *s3.Options) {
		if at.Endpoint != "" {
			o.BaseEndpoint = aws.String(at.Endpoint)
		}
		o.UsePathStyle = at.PathStyle
		o.HTTPClient = httpClient(cmp.Or(t.stall, time.Minute))
		o.Retryer = newRetryer(t)
		// The checksums that are needed are given; others the SDK would send in an encoding that few servers know.
		o.RequestChecksumCalculation = aws.RequestChecksumCalculationWhenRequired
		o.ResponseChecksumValidation = aws.ResponseChecksumValidationWhenRequired
		o.DisableLogOutputChecksumValidationSkipped = true
		o.ContinueHeaderThresholdBytes = -1 // it costs a round trip, or a second with servers that do not answer it
		o.APIOptions = append(o.APIOptions, at.refusePlain)
	}), nil
}

// newRetryer tries again what S3 says to try again: 5xx, throttling, what broke on the way, and 409, which means that two
// wrote at the same time.
func newRetryer(t tuning) aws.Retryer {
	return retry.NewStandard(func(o *retry.StandardOptions) {
		o.MaxAttempts = cmp.Or(t.attempts, 5)
		o.MaxBackoff = cmp.Or(t.pause, 10*time.Second)
		o.Backoff = retry.NewExponentialJitterBackoff(o.MaxBackoff)
		o.Retryables = append(o.Retryables, retry.RetryableHTTPStatusCode{Codes: map[int]struct{}{http.StatusConflict: {}}})
	})
}

// refusePlain holds the rule on encryption against every request, wherever its endpoint came from: the SDK also takes
// one from AWS_ENDPOINT_URL and from profiles.
func (at *Location) refusePlain(stack *middleware.Stack) error {
	return stack.Finalize.Add(beforeSending{"refusePlain", func(req *smithyhttp.Request) error { return at.checkPlain(req.URL) }}, middleware.After)
}

// beforeSending is a step of the SDK that looks at every attempt of a request.
type beforeSending struct {
	id   string
	look func(req *smithyhttp.Request) error
}

func (s beforeSending) ID() string { return s.id }

func (s beforeSending) HandleFinalize(ctx context.Context, in middleware.FinalizeInput, next middleware.FinalizeHandler) (
	out middleware.FinalizeOutput, metadata middleware.Metadata, err error,
) {
	if req, ok := in.Request.(*smithyhttp.Request); ok {
		if err := s.look(req); err != nil {
			return out, metadata, err
		}
	}
	return next.HandleFinalize(ctx, in)
}

// An attempt counts how often a request was sent, and says what the SHA-256 of its body is, so that the SDK does not
// read it for that once more.
type attempt struct {
	sum   string // in hex; "": the SDK finds it out
	count int
}

func (a *attempt) option(o *s3.Options) {
	o.APIOptions = append(o.APIOptions, func(stack *middleware.Stack) error {
		counted := beforeSending{"countAttempts", func(*smithyhttp.Request) error {
			a.count++
			return nil
		}}
		return errors.Join(stack.Initialize.Add(a, middleware.Before), stack.Finalize.Add(counted, middleware.After))
	})
}

// ID and HandleInitialize make an attempt a step of the SDK.
func (a *attempt) ID() string { return "payloadHash" }

func (a *attempt) HandleInitialize(ctx context.Context, in middleware.InitializeInput, next middleware.InitializeHandler) (
	middleware.InitializeOutput, middleware.Metadata, error,
) {
	if a.sum != "" {
		ctx = v4.SetPayloadHash(ctx, a.sum)
	}
	return next.HandleInitialize(ctx, in)
}

// httpClient has no limit for a whole request, which may be large and slow, but for silence.
func httpClient(stall time.Duration) s3.HTTPClient {
	return awshttp.NewBuildableClient().WithTransportOptions(func(t *http.Transport) {
		dial := t.DialContext
		t.DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
			conn, err := dial(ctx, network, address)
			if err != nil {
				return nil, err
			}
			return &watchedConn{conn, stall}, nil
		}
		t.ForceAttemptHTTP2 = false // many parts on one connection are no faster than one
		t.MaxIdleConnsPerHost = 2 * partsAtOnce
	})
}

// A watchedConn fails if nothing moves on it.
type watchedConn struct {
	net.Conn
	stall time.Duration
}

// Read waits as long as something moves, if only in the other direction: nothing is answered before all is sent.
func (c *watchedConn) Read(p []byte) (int, error) {
	_ = c.SetDeadline(time.Now().Add(c.stall))
	return c.Conn.Read(p)
}

// Write writes in pieces, so that a long one on a slow line is not taken for silence.
func (c *watchedConn) Write(p []byte) (n int, err error) {
	for {
		piece := p[n:min(n+32<<10, len(p))]
		_ = c.SetDeadline(time.Now().Add(c.stall))
		m, err := c.Conn.Write(piece)
		if n += m; err != nil || n == len(p) {
			return n, err
		}
	}
}
