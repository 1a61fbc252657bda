// Package refresh fetches a fresh licence over HTTPS, when the app asks for one.
//
// It is apart from package license, so that an app which does not refresh links no network. The Store of package license calls it:
//
//	renewals := &refresh.HTTP{Hosts: []string{"licenses.acme.example"}}
//	status, err := store.Refresh(ctx, renewals)
//
// Whatever happens, the old licence stays and goes on to its own end: an error is for the log, and for a user who has
// asked. There is no timer in here, and nothing goes on after Refresh has returned. Once a day is often enough.
//
// # What is sent, and where
//
// One GET, with the token in a header:
//
//	GET /renewals/x7Kd2v.license HTTP/1.1
//	Host: licenses.acme.example
//	Authorization: Bearer eyJhbGciOiJFZERTQSIs…
//	Accept: application/jwt
//	User-Agent: fairlead
//
// Who has a token can use it, so it goes to no host but those that the app was built with ([HTTP.Hosts]): the URL in the
// licence is a hint of whoever issued it, and has to name one of them. Only https is spoken, no redirect is followed, not
// even on the same host, no cookie is kept, and neither a URL nor an error ever contains the token.
//
// # What is answered
//
//	200                      a licence, bare or in armour, of at most 64 KiB
//	204, 304, 404            there is nothing newer
//	401, 403                 the issuer refuses: [ErrRefused]
//	410                      the licence has ended: [ErrEnded]
//	429, 502, 503, 504       tried again, after a pause that is random and grows; Retry-After is obeyed where there is time
//	another                  a [*StatusError], or for 3xx a [*RedirectError]
//
// What comes is not judged here: it is as good as its signature, which package license verifies, and a renewal of another
// licence, or one that is no newer, is not installed.
//
// # Serving it
//
// A server may look the licence up by the token it gets. A static one will do as well: the vendor writes the URL into each
// licence, and puts the renewed token into the file of that name. As such a server does not ask who comes, the
// name of the file has to be one that cannot be guessed, not the licence's number.
package refresh
