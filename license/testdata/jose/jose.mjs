// What jose, another implementation of JWT, makes of our tokens, and tokens that it makes: for jose_test.go.
//
//     node jose.mjs FOLDER     FOLDER/node_modules has jose; one question as JSON on stdin, the answer on stdout
import { createRequire } from 'node:module'
import { join, resolve } from 'node:path'
import { pathToFileURL } from 'node:url'
import { text } from 'node:stream/consumers'

const folder = createRequire(join(resolve(process.argv[2]), 'x.js'))
const { decodeProtectedHeader, importJWK, jwtVerify, SignJWT } = await import(pathToFileURL(folder.resolve('jose')))
const { verify = [], sign = [], ring, issuer, audience, now } = JSON.parse(await text(process.stdin))

// The key is chosen as an app does it: by kid, from the vendor's JWK set; its own alg is the only one allowed.
async function check(token) {
  try {
    const { kid } = decodeProtectedHeader(token)
    const jwk = ring.keys.find((key) => key.kid === kid)
    const { payload } = await jwtVerify(token, await importJWK(jwk), {
      algorithms: [jwk.alg], issuer, audience, typ: 'license+jwt', currentDate: new Date(now),
      requiredClaims: ['v', 'iss', 'aud', 'sub', 'jti', 'iat', 'exp', 'lid', 'seq'],
    })
    return { claims: payload }
  } catch (e) {
    return { error: e.code ?? String(e), claim: e.claim }
  }
}

async function make({ jwk, header, claims }) {
  return new SignJWT(claims).setProtectedHeader(header).sign(await importJWK(jwk))
}

process.stdout.write(JSON.stringify({
  verified: await Promise.all(verify.map(check)),
  signed: await Promise.all(sign.map(make)),
}))
