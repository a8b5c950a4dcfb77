// The article's token issuer, in another language than ours and without a library: composes the digest and the JWT
// exactly as its Ruby does. Arguments: user (a whole number), room, passcode, secret, seconds to live.
// Prints one JSON object: {digest, token}.
import { createHash, createHmac } from "node:crypto";

const [user, room, passcode, secret, seconds] = process.argv.slice(2);
const digest = createHash("sha256").update(`${user}${passcode}${room}`).digest("hex");
const part = (value) => Buffer.from(JSON.stringify(value)).toString("base64url");
const exp = Math.floor(Date.now() / 1000) + Number(seconds);
const signed = `${part({ alg: "HS512" })}.${part({ user_id: Number(user), room_id: room, token: digest, exp })}`;
const signature = createHmac("sha512", secret).update(signed).digest("base64url");
console.log(JSON.stringify({ digest, token: `${signed}.${signature}` }));
