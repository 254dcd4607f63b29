# Elasticsearch with Korean analysis: nori takes words apart, icu makes one of the ways in which a letter can be encoded.
FROM docker.elastic.co/elasticsearch/elasticsearch:8.17.0
RUN bin/elasticsearch-plugin install --batch analysis-nori analysis-icu
