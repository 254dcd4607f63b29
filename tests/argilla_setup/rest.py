"""A small client of Argilla's REST API, with which the tests act as one account."""

from __future__ import annotations

import httpx

from argilla_setup import launcher


class Rest:
    """Requests as one account; an answer that is not a success fails the test with its text."""

    def __init__(self, home, account="owner"):
        self.credentials = launcher.credentials(home)
        key = self.credentials.accounts[account].api_key
        self.client = httpx.Client(
            base_url=self.credentials.url,
            headers={"X-Argilla-Api-Key": key, "accept-encoding": "identity"},
            timeout=60,
            # Below uvicorn's five seconds: else a connection may be used at the moment in which the server ends it.
            limits=httpx.Limits(keepalive_expiry=2),
            trust_env=False,
            verify=False,  # plain HTTP: reading the certificates would cost more than most requests
        )

    def __call__(self, method, path, **more):
        reply = self.client.request(method, f"/api/v1{path}", **more)
        assert reply.is_success, f"{method} {path}: {reply.status_code} {reply.text}"
        return reply.json() if reply.content else None

    def workspace_id(self):
        return self("GET", "/me/workspaces")["items"][0]["id"]

    def create_draft(self, name, *, workspace=None, min_submitted=1, **more):
        """A dataset without fields and questions, not published; returns its id."""
        body = {
            "name": name,
            "workspace_id": workspace or self.workspace_id(),
            "distribution": {"strategy": "overlap", "min_submitted": min_submitted},
            **more,
        }
        return self("POST", "/datasets", json=body)["id"]

    def create_dataset(self, name, *, fields, questions, metadata=(), vectors=(), min_submitted=1, workspace=None):
        """A published dataset; returns its id."""
        dataset = self.create_draft(name, workspace=workspace, min_submitted=min_submitted)
        for field, settings in fields.items():
            body = {"name": field, "title": field, "required": False, "settings": settings}
            self("POST", f"/datasets/{dataset}/fields", json=body)
        for question, settings in questions.items():
            body = {"name": question, "title": question, "required": question == "rating", "settings": settings}
            self("POST", f"/datasets/{dataset}/questions", json=body)
        for name_, kind in dict(metadata).items():
            body = {"name": name_, "title": name_, "settings": {"type": kind}, "visible_for_annotators": True}
            self("POST", f"/datasets/{dataset}/metadata-properties", json=body)
        for name_, dimensions in dict(vectors).items():
            body = {"name": name_, "title": name_, "dimensions": dimensions}
            self("POST", f"/datasets/{dataset}/vectors-settings", json=body)
        self("PUT", f"/datasets/{dataset}/publish")
        return dataset

    def upsert(self, dataset, items):
        return self("PUT", f"/datasets/{dataset}/records/bulk", json={"items": items})["items"]

    def questions(self, dataset):
        return {item["name"]: item["id"] for item in self("GET", f"/datasets/{dataset}/questions")["items"]}

    def search(self, dataset, text=None, *, field=None, vector=None, filters=None, sort=None, me=False, **page):
        """The search reply; `filters` and `sort` as Argilla's API takes them."""
        query = {}
        if text is not None:
            query["text"] = {"q": text, **({"field": field} if field else {})}
        if vector is not None:
            query["vector"] = vector
        body = {"query": query or None, "filters": {"and": filters} if filters else None, "sort": sort}
        path = f"{'/me' if me else ''}/datasets/{dataset}/records/search"
        params = {"limit": 1000, **page}
        return self("POST", path, json={key: value for key, value in body.items() if value}, params=params)

    def found(self, dataset, text=None, **more):
        """External ids of what a search finds, in its order; the total must fit them."""
        reply = self.search(dataset, text, **more)
        ids = [item["record"]["external_id"] for item in reply["items"]]
        assert len(ids) == len(set(ids))
        if not more.get("limit") and not more.get("offset"):
            assert reply["total"] == len(ids)
        return ids

    def answer(self, record_id, values, status="submitted"):
        body = {"values": {name: {"value": value} for name, value in values.items()}, "status": status}
        return self("POST", f"/records/{record_id}/responses", json=body)


TEXT = {"type": "text", "use_markdown": False}
CHAT = {"type": "chat", "use_markdown": False}
CUSTOM = {"type": "custom", "template": "<b>{{record.fields.card.title}}</b>", "advanced_mode": False}


def rating():
    return {"type": "rating", "options": [{"value": value} for value in range(1, 6)]}


def labels(*names, kind="label_selection"):
    return {"type": kind, "options": [{"value": name, "text": name} for name in names], "visible_options": None}
