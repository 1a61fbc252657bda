module github.com/fairlead-dev/fairlead/update/testdata/peer

go 1.26.6

require github.com/minio/selfupdate v0.6.0

require (
	aead.dev/minisign v0.2.0 // indirect
	golang.org/x/crypto v0.0.0-20211209193657-4570a0811e8b // indirect
	golang.org/x/sys v0.0.0-20210615035016-665e8c7367d1 // indirect
)
