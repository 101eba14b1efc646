"""What must have come: publishers write numbers into a ledger, and each reader is a witness of its topic.

A witness holds the engine to its promise: every number once, in order, and what is missing told as a gap of exactly so many.
"""

import collections


class Ledger:
    """What was published for certain, and what perhaps."""

    def __init__(self):
        self.last = {}
        # Numbers whose publication was never answered: they may have come, or not, but not twice.
        self.doubtful = collections.defaultdict(set)
        self.witnesses = []
        self.faults = []
        # Gaps that were told, by reason.
        self.gaps = collections.Counter()

    def witness(self, name, topic, **rules):
        """Makes a witness that has to see everything until the end."""
        witness = Witness(self, name, topic, **rules)
        self.witnesses.append(witness)
        return witness

    def fault(self, text):
        """Notes what must not have happened; of very many the first ones do."""
        if len(self.faults) < 200:
            self.faults.append(text)

    def behind(self):
        """Returns the witnesses that have not seen the last number yet."""
        return [witness for witness in self.witnesses if not witness.complete()]


class Witness:
    """One reader of one topic."""

    def __init__(self, ledger, name, topic, skips=False, forgets=False):
        self.ledger, self.name, self.topic = ledger, name, topic
        # It asked for the newest only, in a form that does not tell what was skipped.
        self.skips = skips
        # Its topic is deleted now and then, so that a new epoch may begin.
        self.forgets = forgets
        self.at = None
        self.cursor = None
        # What is told to be missing before the next message; -1 stands for any number.
        self.missing = 0
        self.seen = self.lost = 0

    def restart(self):
        """It begins anew and has no cursor: what was between is not known."""
        self.missing = -1

    def complete(self):
        """Whether everything that was certainly published has come, or was told to be missing."""
        last = self.ledger.last.get(self.topic, 0)
        if self.forgets and self.missing < 0:
            return True
        if self.skips or self.at is None or self.missing < 0:
            return last == 0 or self.at == last
        doubtful = self.ledger.doubtful[self.topic]
        return self.at + self.missing >= last - sum(1 for number in doubtful if self.at < number <= last)

    def gap(self, gap):
        """Hears that messages are missing."""
        self.ledger.gaps[gap["reason"]] += 1
        self.lost += gap["count"]
        self.cursor = gap["to"]
        if gap["reason"] == "epoch":
            if not self.forgets:
                self.ledger.fault(f"{self.name}: {self.topic} has begun a new epoch: {gap}")
            self.missing = -1
        elif self.missing >= 0:
            self.missing += gap["count"]

    def message(self, text, cursor=None):
        """Hears a message, whose payload begins with its number."""
        number = int(text.split(" ", 1)[0])
        if cursor is not None:
            self.cursor = cursor
        if self.at is not None:
            doubtful = sum(1 for other in self.ledger.doubtful[self.topic] if self.at < other < number)
            between = number - self.at - 1
            if between < 0 and not (number == self.at and self.missing < 0):
                self.ledger.fault(f"{self.name}: {self.topic} has {number} after {self.at}: doubled or out of order")
            elif not self.skips and self.missing >= 0 and not between - doubtful <= self.missing <= between:
                what = f"{between} between {self.at} and {number}, and {self.missing} told to be missing"
                self.ledger.fault(f"{self.name}: {self.topic} has {what}")
        self.at = number
        self.missing = 0
        self.seen += 1

    def item(self, item):
        """Hears an item of a stream or a poll; returns the refusal, if it is one."""
        if "gap" in item:
            self.gap(item["gap"])
        elif "refused" in item:
            return item["refused"]
        else:
            self.message(item["data"], item["cursor"])
        return None
