// A fan-out server with the npm package socket.io, as its own documentation does it: a topic is a room.
//
//   node socketio.js PORT     the event "subscribe" (topic) is acknowledged; "publish" (topic, text) emits "message" (text) to the
//                             topic's room
import { createServer } from "node:http";
import { Server } from "socket.io";

const http = createServer();
const io = new Server(http);

io.on("connection", (socket) => {
    socket.on("subscribe", (topic, done) => {
        socket.join(topic);
        done();
    });
    socket.on("publish", (topic, text) => {
        io.to(topic).emit("message", text);
    });
});

http.listen({ host: "127.0.0.1", port: Number(process.argv[2]), backlog: 4096 });
