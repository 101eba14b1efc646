// A fan-out server with the npm package ws, as its own documentation broadcasts: `send` to each client that is open.
//
//   node ws.js PORT       {"subscribe":topic} is answered with {"subscribed":topic}; {"publish":topic,"data":text} sends the text
//                         to all who subscribed to the topic
import { WebSocket, WebSocketServer } from "ws";

const topics = new Map();
const server = new WebSocketServer({ host: "127.0.0.1", port: Number(process.argv[2]), backlog: 4096 });

server.on("connection", (socket) => {
    socket.on("error", console.error);
    socket.on("message", (text) => {
        const said = JSON.parse(text);
        if (said.subscribe) {
            const subscribers = topics.get(said.subscribe) ?? new Set();
            topics.set(said.subscribe, subscribers.add(socket));
            socket.on("close", () => subscribers.delete(socket));
            socket.send(JSON.stringify({ subscribed: said.subscribe }));
        } else if (said.publish) {
            for (const subscriber of topics.get(said.publish) ?? []) {
                if (subscriber.readyState === WebSocket.OPEN) {
                    subscriber.send(said.data);
                }
            }
        }
    });
});
