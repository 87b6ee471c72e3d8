// A provider for tests: access tokens as JWTs, for a client with a secret, with roles in a claim.
// Arguments: issuer, port, file with its keys (JWKS, private), audience.
import { readFileSync } from "node:fs";
import Provider from "oidc-provider";

const [issuer, port, jwks, audience] = process.argv.slice(2);
const client = {
  client_id: "shop",
  client_secret: "a-secret-for-tests-alone",
  grant_types: ["client_credentials"],
  redirect_uris: [],
  response_types: [],
};
const provider = new Provider(issuer, {
  clients: [client],
  jwks: JSON.parse(readFileSync(jwks, "utf8")),
  extraTokenClaims: async () => ({ roles: ["viewer:churn-*"] }),
  features: {
    clientCredentials: { enabled: true },
    devInteractions: { enabled: false },
    resourceIndicators: {
      enabled: true,
      defaultResource: async () => audience,
      useGrantedResource: async () => true,
      getResourceServerInfo: async () => ({
        scope: "",
        audience,
        accessTokenTTL: 600,
        accessTokenFormat: "jwt",
        jwt: { sign: { alg: "RS256" } },
      }),
    },
  },
});
provider.listen(Number(port), "127.0.0.1", () => console.log("listening"));
