"""Thin adapters between the clouds and `core`: decode, call, encode.

    wire, openapi     the JSON of requests and answers, their schema, error -> status
    loading           the model, loaded in a thread beside the framework's imports
    admission         how many requests run and wait, and for how long
    service           the routes, as one function from a Request to a Response
    startup, metrics, request_log     what is told about a start, in numbers, and about a request
    cloudrun          Functions Framework        serve, server        how it is started and run
    deferred          frameworks' modules that are imported only when they are used
    probe             asks that server, from inside its container, whether it is well
    aws_lambda        Lambda's events            lambda_http          FastAPI behind Mangum

The two adapters never import each other.
"""
