// npm run mock: the page over the mock gateway, for looking at it.
import { startMock } from "./gateway.mjs";

const mock = await startMock({ port: Number(process.env.PORT ?? 8766), base: process.env.BASE ?? "/" });
process.stdout.write(`${mock.url}\n`);
