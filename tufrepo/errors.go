package tufrepo

import (
	"errors"
	"fmt"
	"strings"
	"time"
)

// ErrExists says that a store already holds a repository, see [Create].
var ErrExists = errors.New("tufrepo: the store already holds a repository; open it instead")

// A TrustError says that what a store holds does not follow from the trusted root: it was tampered with, damaged, or
// the root given is that of another repository. Nothing of it may be signed over.
type TrustError struct {
	Name string // the file
	Err  error
}

func (e *TrustError) Error() string {
	return "tufrepo: " + e.Name + " is not what the repository's keys signed: " + e.Err.Error()
}

func (e *TrustError) Unwrap() error { return e.Err }

// A MissingKeysError says that a role cannot be signed with the signers given. Nothing was written.
type MissingKeysError struct {
	Role       string
	Have, Need int
	KeyIDs     []string // the keys that the role names
}

func (e *MissingKeysError) Error() string {
	return fmt.Sprintf("tufrepo: role %s needs %d of the keys %s, and %d were given; nothing was written", e.Role, e.Need, strings.Join(e.KeyIDs, ", "), e.Have)
}

// A ParentExpiresError says that a role would be signed for a time when the role above it will have expired, and
// clients could not use it. Nothing was written.
type ParentExpiresError struct {
	Parent, Child              string
	ParentExpires, NextSigning time.Time
}

func (e *ParentExpiresError) Error() string {
	return fmt.Sprintf("tufrepo: %s expires on %s, before %s is next signed on %s; re-sign %s first", e.Parent,
		e.ParentExpires.Format(time.RFC3339), e.Child, e.NextSigning.Format(time.RFC3339), e.Parent)
}

// A VersionReusedError says that a version already stands for other bytes, or other terms. It can not be used again:
// installations that have it would not notice.
type VersionReusedError struct {
	Product, Version string
	Channel          string // where it is listed
	Detail           string // what differs
}

func (e *VersionReusedError) Error() string {
	return fmt.Sprintf("tufrepo: %s %s is already released in %s, and %s; release it under a new version", e.Product, e.Version, e.Channel, e.Detail)
}

// A NotFoundError names what is not in the repository.
type NotFoundError struct {
	What string // such as "channel notes.stable"
	Next string // what to do, or ""
}

func (e *NotFoundError) Error() string {
	if e.Next == "" {
		return "tufrepo: there is no " + e.What
	}
	return "tufrepo: there is no " + e.What + "; " + e.Next
}

// A StateError says that an edit does not fit what is there.
type StateError struct {
	What   string // such as "notes 1.4.0 in stable"
	Detail string // why not, and what to do
}

func (e *StateError) Error() string { return "tufrepo: " + e.What + " " + e.Detail }

// An ArtifactError says why a file cannot be released.
type ArtifactError struct {
	Path string // the file on the publisher's machine
	Err  error
}

func (e *ArtifactError) Error() string { return "tufrepo: artifact " + e.Path + ": " + e.Err.Error() }

func (e *ArtifactError) Unwrap() error { return e.Err }
