// A provider for tests: access tokens as JWTs with roles in a claim, for a client with a secret, and for people who sign
// in at a console. Arguments: issuer, port, file with its keys (JWKS, private), audience, the console's redirect URI.
import { readFileSync } from "node:fs";
import Provider from "oidc-provider";

const [issuer, port, jwks, audience, redirect] = process.argv.slice(2);
const secret = "a-secret-for-tests-alone";
const program = {
  client_id: "shop",
  client_secret: secret,
  grant_types: ["client_credentials"],
  redirect_uris: [],
  response_types: [],
};
const console_ = { grant_types: ["authorization_code"], redirect_uris: [redirect], response_types: ["code"] };
const consoles = [
  { ...console_, client_id: "console", client_secret: secret },
  { ...console_, client_id: "public", token_endpoint_auth_method: "none" },
];
const roles = { alice: ["operator"], vera: ["viewer"] };
const provider = new Provider(issuer, {
  clients: [program, ...(redirect ? consoles : [])],
  cookies: { keys: [secret] },
  jwks: JSON.parse(readFileSync(jwks, "utf8")),
  extraTokenClaims: async (ctx, token) => ({ roles: token.accountId ? (roles[token.accountId] ?? []) : ["viewer:churn-*"] }),
  features: {
    clientCredentials: { enabled: true },
    devInteractions: { enabled: Boolean(redirect) },
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
